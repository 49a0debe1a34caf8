"""What the tests of the configuration share: a whole file, and how one is refused."""

import pytest

from hitless import ConfigError
from hitless.client.config import load


WHOLE = """
[backend]
url = "https://api.example.com"
headers_env = "BACKEND_HEADERS"

[policy]
max_retries = 4
health_interval_s = 20
return_policy = "return"
media_beats_health = false

[[provider]]
name = "zegocloud"
adapter = "whip"
priority = 2
url = "https://zegocloud.example.com/whip/{stream}"

[[provider]]
name = "agora"
adapter = "whip"
priority = 1
url = "https://agora.example.com/whip/{stream}"
token_file = "agora.token"
first_media_s = 6
"""


def refused(path, environ=(), flags=None):
    """Return the sentence with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        load(path, dict(environ), flags)
    return str(caught.value)
