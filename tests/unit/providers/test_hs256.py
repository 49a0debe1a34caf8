"""Tokens of HS256: the same as PyJWT's own, and no key that is one of another kind."""

import jwt
import pytest

from hitless.errors import ConfigError
from hitless.providers.hs256 import Hs256


SECRET = b"thirty-two bytes of a test's key"
CERTIFICATE = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"


def test_a_token_is_the_one_that_pyjwt_makes() -> None:
    """The claims and headers are written the same, so that any verifier reads them."""
    claims, headers = (
        {"sub": "studio", "exp": 4_000_000_000, "video": {"room": "ü"}},
        {"kid": "k1"},
    )
    made = Hs256(SECRET, headers).sign(claims)
    assert made == jwt.encode(claims, SECRET, algorithm="HS256", headers=headers)
    assert jwt.decode(made, SECRET, algorithms=["HS256"]) == claims


def test_its_type_may_be_another() -> None:
    """A plan is no JWT that a provider would take for one of its own."""
    made = Hs256(SECRET, {"typ": "plan"}).sign({})
    assert jwt.get_unverified_header(made) == {"alg": "HS256", "typ": "plan"}


@pytest.mark.parametrize("key", [b"", CERTIFICATE, b'{"kty": "oct", "k": "c2VjcmV0"}'])
def test_a_key_of_another_kind_is_refused_once_and_for_all(key: bytes) -> None:
    """Who knows a public key could sign with it."""
    with pytest.raises(ConfigError, match="looks like"):
        Hs256(key)
