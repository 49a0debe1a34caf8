"""
A stand-in of `agora-python-server-sdk` 2.4.10: no native library, no network, no Agora.

It has the names that a viewer calls, as they are in the package's published source, and does to
its process what that one does when it is imported. What happens in a channel goes by its name;
see `rtc/agora_service.py`.
"""

import ssl


ssl._create_default_https_context = ssl._create_unverified_context
print("Downloading: ----100.00%-----\n", flush=True)  # noqa: T201 -- so does the SDK
