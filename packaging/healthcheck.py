"""
Ask the node in this container whether it is ready; the exit status is 0 if it is.

`HEALTH_URL` says where it listens, if that is not http://127.0.0.1:8080. A certificate is not
checked: it bears the name that clients use, and nobody is between a container and itself.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request


TIMEOUT_S = 4.0

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),  # whatever the environment says of proxies
    urllib.request.HTTPSHandler(context=context),
)
url = os.environ.get("HEALTH_URL") or "http://127.0.0.1:8080"
try:
    with opener.open(f"{url.rstrip('/')}/readyz", timeout=TIMEOUT_S) as answer:
        said, status = answer.read(1000).decode(errors="replace"), 0
except urllib.error.HTTPError as error:
    with error:
        said, status = error.read(1000).decode(errors="replace"), 1
except (OSError, ValueError) as error:
    said, status = f"no answer: {error}", 1
sys.stdout.write(f"{said}\n")
sys.exit(status)
