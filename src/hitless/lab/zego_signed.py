"""Signatures of ZEGOCLOUD's server API v2, as its stand-in checks them; each is good once."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from ..errors import HitlessError
from ..providers.zego_rest import signature
from .account import ZegoAccount


CLOCK_S_MAX: Final = 600
"""How far the time of a signature may be from now [s]."""
NONCES_MAX: Final = 100_000
"""Nonces that are remembered; more calls in 20 min let the oldest be used again."""

_EXPIRED, _WRONG = 100000004, 100000005
_FIELDS: Final = (
    ("Timestamp", 100000002),
    ("Action", 100000006),
    ("SignatureNonce", 100000008),
    ("Signature", 100000009),
    ("SignatureVersion", 100000013),
)

Query = Mapping[str, list[str]]


class Failed(HitlessError):
    """A call that is answered with a code other than 0, and a message for people."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Signatures:
    """
    Checks the signatures of one account, and remembers which were used.

    Args:
        account: Whose.
        wall_s: Returns the time of the wall clock [s].
    """

    def __init__(self, account: ZegoAccount, wall_s: Callable[[], float]) -> None:
        self._account, self._wall_s = account, wall_s
        self._nonces: OrderedDict[str, float] = OrderedDict()

    def check(self, query: Query) -> None:
        """
        Return if a call is well-formed, signed, of now, and was not made before.

        Raises:
            Failed: It is not; with the documented code. That a call made before has the code of
                a wrong signature is unconfirmed.
        """
        said = {name: values[0] for name, values in query.items()}
        app_id, stamp = said.get("AppId", ""), said.get("Timestamp", "")
        if not is_number(app_id):
            raise Failed(100000001, "AppId field format error.")
        if int(app_id) != self._account.app_id:
            raise Failed(100000011, "Failed to get App configuration.")
        for name, code in _FIELDS:
            if not said.get(name):
                raise Failed(code, f"{name} field is empty.")
        if not is_number(stamp):
            raise Failed(100000003, "Timestamp field format error.")
        if said["SignatureVersion"] != "2.0":
            raise Failed(100000014, "Unsupported SignatureVersion.")
        now_s, nonce = self._wall_s(), said["SignatureNonce"]
        if abs(now_s - int(stamp)) > CLOCK_S_MAX:
            raise Failed(_EXPIRED, "Signature expired.")
        good = signature(self._account.app_id, nonce, self._account.server_secret, int(stamp))
        given = said["Signature"].encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(good.encode(), given) or self._is_used(nonce, now_s):
            raise Failed(_WRONG, "Signature error.")

    def _is_used(self, nonce: str, now_s: float) -> bool:
        while self._nonces and (
            next(iter(self._nonces.values())) < now_s - 2 * CLOCK_S_MAX
            or len(self._nonces) > NONCES_MAX
        ):
            self._nonces.popitem(last=False)
        if nonce in self._nonces:
            return True
        self._nonces[nonce] = now_s
        return False


def is_number(text: str) -> bool:
    """Whether a text is a whole number that is not negative, of up to 20 digits."""
    return text.isascii() and text.isdigit() and len(text) <= 20
