"""
Tokens signed with HS256 (RFC 7519 and 7515), by PyJWT.

PyJWT looks at the key again for every token: whether it is a certificate, a public key or a JSON
key in disguise. That takes nearly as long as all the rest. Here a key is looked at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jwt
from jwt.algorithms import HMACAlgorithm

from ..errors import ConfigError


class Hs256:
    """
    Signs with one key.

    Args:
        secret: The key; its length is for the caller to judge.
        headers: What stands in each token's header besides `alg`, `typ` too if it is not JWT.

    Raises:
        ConfigError: It is empty, or looks like a key of another kind.
    """

    def __init__(self, secret: bytes, headers: Mapping[str, str] | None = None) -> None:
        try:
            self._secret = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
        except jwt.PyJWTError:
            raise ConfigError("it looks like a certificate or public key, or is empty") from None
        self._headers = dict(headers or {})
        self._jws = jwt.PyJWS(algorithms=())
        self._jws.register_algorithm("HS256", _LookedAt(HMACAlgorithm.SHA256))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token of these claims (Any: whatever JSON can say)."""
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return self._jws.encode(payload, self._secret, algorithm="HS256", headers=self._headers)


class _LookedAt(HMACAlgorithm):
    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key
