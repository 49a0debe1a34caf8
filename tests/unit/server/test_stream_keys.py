"""Stream keys of Agora's Media Gateway in plans; hitless.server.minters"""

import base64
from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hitless.core.events import Role
from hitless.errors import ConfigError
from hitless.providers import agora_token
from hitless.server.minters import Asker, ProviderSecrets
from hitless.server.plans import Mint
from hitless.server.providers import SERVER_OPTIONS


NOW = 1_700_000_000.9
APP = "970CA35de60c44645bbae8a215061b33"
CERTIFICATE = "5CFd2fd1755d40ecb72977518be15d3b"
PUBLISHER = Asker(stream="show-1", role=Role.PUBLISHER, client="client-1", key="k1", epoch=7)
VIEWER = replace(PUBLISHER, role=Role.VIEWER, client="client-2")
AGORA = ProviderSecrets(
    name="own",
    adapter="agora",
    secrets={"certificate": CERTIFICATE},
    options={"app_id": APP, "local_keys": True, "ingest_hosts": ["push.example.com"]},
)


def with_options(**options):
    """Return Agora with other options."""
    return replace(AGORA, options={**AGORA.options, **options})


def values(asker, provider=AGORA, place=0):
    """Return what a client is given, for the leg on air or, at place 1, the one in reserve."""
    mint = Mint(is_revoked=lambda asker: False)
    assert mint.replace([replace(provider, name="other"), provider]) == {}
    minted = mint.mint_all(["other", "own"][1 - place :], asker, NOW)
    assert minted.failed == {}
    return minted.credentials["own"].values


def read(key):
    """Return what Agora would find in a stream key, by its page."""
    whole = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
    cipher = Cipher(algorithms.AES(bytes.fromhex(CERTIFICATE)), modes.CTR(whole[:16]))
    decryptor = cipher.decryptor()
    return msgspec.msgpack.decode(decryptor.update(whole[16:]) + decryptor.finalize())


@pytest.mark.parametrize("place", [0, 1])
def test_a_publisher_gets_a_stream_key_for_its_channel_that_ends_with_its_token(place):
    """In reserve too, with the name of the next placement: a move needs no call."""
    given = values(PUBLISHER, place=place)
    token = agora_token.read(given["token"], CERTIFICATE)

    assert given["channel"] == f"show-1-{7 + place}"
    assert read(given["stream_key"]) == {
        "C": given["channel"],
        "U": str(given["uid"]),
        "E": token.issued_s + token.ttl_s,
    }


def test_a_viewer_gets_none():
    assert "stream_key" not in values(VIEWER)


def test_nobody_gets_one_where_the_operator_did_not_ask_for_it():
    """Whoever has one can write others: it is for publishers that may publish everything."""
    assert "stream_key" not in values(PUBLISHER, with_options(local_keys=False))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"local_keys": "yes"}, "local_keys: give true or false"),
        ({"ingest_hosts": []}, "local_keys needs ingest_hosts"),
        ({"ingest_hosts": None}, "local_keys needs ingest_hosts"),
    ],
)
def test_keys_that_agora_would_not_take_are_not_made(options, names):
    with pytest.raises(ConfigError, match=names):
        Mint(is_revoked=lambda asker: False).make(with_options(**options))


def test_the_option_is_the_servers_own():
    """Clients are not told of it, and no adapter takes it."""
    assert "local_keys" in SERVER_OPTIONS
