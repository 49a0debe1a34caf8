"""docs/use-a-provider.md: what it says to write is what works"""

import asyncio
import re
from pathlib import Path

import pytest

from hitless.client.assembly import make_providers
from hitless.client.config import load
from hitless.providers import installed
from hitless.providers.checkup import Checkable


PAGE = Path(__file__).parents[2] / "docs" / "use-a-provider.md"
TABLES = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
ID = "970ca35de60c44645bbae8a215061b33"
SECRETS = {
    "WEBRTC_TOKEN": "token",
    "JANUS_API_SECRET": "secret",
    "LIVEKIT_KEY": "APIkey",
    "LIVEKIT_SECRET": "s" * 32,
    "AGORA_CERTIFICATE": ID,
    "AGORA_CUSTOMER_ID": "customer",
    "AGORA_CUSTOMER_SECRET": "secret",
    "ZEGO_SERVER_SECRET": ID,
}


@pytest.mark.parametrize("table", TABLES)
def test_each_table_of_the_page_makes_a_provider_that_can_be_examined(table, tmp_path):
    path = tmp_path / "hitless.toml"
    path.write_text(table.replace('app_id = "..."', f'app_id = "{ID}"'))

    async def main():
        (made,) = make_providers(load(path, SECRETS, {}), SECRETS)
        try:
            return isinstance(made, Checkable), made.endpoints()
        finally:
            await made.aclose()

    is_checkable, urls = asyncio.run(main())

    assert is_checkable
    assert urls
    assert not [secret for secret in SECRETS.values() for url in urls if secret in url]


def test_every_adapter_for_a_real_service_has_its_table():
    named = {re.search(r'(?:adapter|name) = "(\w+)"', table).group(1) for table in TABLES}

    assert named - {"webrtc"} | {"whip", "memory"} == set(installed())
