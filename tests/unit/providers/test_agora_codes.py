"""What Agora's codes mean: each documented one has a row."""

from __future__ import annotations

import pytest

from hitless.errors import (
    ContractBroken,
    CredentialsRejected,
    LocalFault,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.providers.agora_codes import (
    ERRORS,
    QUALITY,
    REASONS,
    WEB_ERRORS,
    error_of,
    quality_score,
    reason_error,
)
from hitless.providers.scale import Band, band_of


NATIVE = [
    (2, ContractBroken, Retry.NEXT, "bad argument"),
    (3, Refused, Retry.SAME, "not ready"),
    (5, Refused, Retry.NEXT, "refused"),
    (7, LocalFault, None, "not initialised"),
    (10, Unreachable, Retry.SAME, "in time"),
    (17, Refused, Retry.SAME, "in the channel already"),
    (18, Refused, Retry.NEXT, "leaving was rejected"),
    (101, CredentialsRejected, Retry.NEXT, "no such App ID"),
    (102, ContractBroken, Retry.NEXT, "channel's name"),
    (103, Unreachable, Retry.NEXT, "no server"),
    (109, CredentialsRejected, Retry.SAME, "has expired"),
    (110, CredentialsRejected, Retry.SAME, "is invalid"),
    (111, Unreachable, Retry.SAME, "interrupted"),
    (112, Unreachable, Retry.NEXT, "lost"),
    (119, Refused, Retry.NEXT, "role"),
    (120, ContractBroken, Retry.NEXT, "decryption"),
    (121, ContractBroken, Retry.NEXT, "uid"),
    (123, Refused, Retry.NEVER, "banned"),
    (134, ContractBroken, Retry.NEXT, "account"),
]

CHANGES = [
    (2, Unreachable, Retry.SAME, "interrupted"),
    (3, Refused, Retry.NEVER, "banned"),
    (4, Unreachable, Retry.NEXT, "20 minutes"),
    (6, CredentialsRejected, Retry.NEXT, "no such App ID"),
    (7, ContractBroken, Retry.NEXT, "channel's name"),
    (8, CredentialsRejected, Retry.SAME, "is invalid"),
    (9, CredentialsRejected, Retry.SAME, "has expired"),
    (10, Refused, Retry.SAME, "rejected"),
    (13, Unreachable, Retry.SAME, "address"),
    (14, Unreachable, Retry.SAME, "keep-alive"),
    (16, Unreachable, Retry.NEXT, "lost"),
    (18, Unreachable, Retry.SAME, "address"),
    (19, Refused, Retry.NEVER, "same uid"),
    (20, Refused, Retry.NEXT, "too many broadcasters"),
]

WEB = [
    ("NETWORK_ERROR", Unreachable, Retry.SAME, "network"),
    ("SERVER_ERROR", Refused, Retry.SAME, "server"),
    ("UID_BANNED", Refused, Retry.NEVER, "banned"),
    ("IP_BANNED", Refused, Retry.NEVER, "banned"),
    ("CHANNEL_BANNED", Refused, Retry.NEVER, "banned"),
    ("TOKEN_EXPIRE", CredentialsRejected, Retry.SAME, "has expired"),
    ("UID_CONFLICT", Refused, Retry.NEVER, "same uid"),
    ("CAN_NOT_GET_GATEWAY_SERVER", Unreachable, Retry.NEXT, "no server"),
    ("NETWORK_TIMEOUT", Unreachable, Retry.SAME, "in time"),
    ("WS_ABORT", Unreachable, Retry.SAME, "interrupted"),
    ("WS_DISCONNECT", Unreachable, Retry.SAME, "interrupted"),
    ("WS_ERR", Unreachable, Retry.SAME, "interrupted"),
    ("ICE_FAILED", Unreachable, Retry.SAME, "ICE"),
    ("GATEWAY_P2P_LOST", Unreachable, Retry.NEXT, "lost"),
    ("INVALID_PARAMS", ContractBroken, Retry.NEXT, "bad argument"),
    ("NO_ACTIVE_STATUS", CredentialsRejected, Retry.NEXT, "not active"),
    ("LICENSE_MISSING", Refused, Retry.NEXT, "licence"),
]


@pytest.mark.parametrize(("code", "error", "retry", "says"), [*NATIVE, *WEB])
def test_a_code_of_an_sdk_is_an_error_with_advice(
    code: int | str, error: type, retry: Retry | None, says: str
) -> None:
    """Of the native SDKs and of the web's."""
    exc = error_of(code, provider="agora", operation="publish")
    assert type(exc) is error
    assert says in str(exc)
    assert str(code) in str(exc)
    if retry is not None:
        assert isinstance(exc, ProviderError)
        assert exc.retry is retry
        assert (exc.provider, exc.operation) == ("agora", "publish")


@pytest.mark.parametrize(("reason", "error", "retry", "says"), CHANGES)
def test_a_reason_of_a_connection_change_is_an_error_with_advice(
    reason: int, error: type, retry: Retry, says: str
) -> None:
    """9 is expired and 8 is invalid; 3 and 19 are for good."""
    exc = reason_error(reason, provider="agora", operation="view")
    assert type(exc) is error
    assert isinstance(exc, ProviderError)
    assert exc.retry is retry
    assert says in str(exc)
    assert f"reason {reason}" in str(exc)


@pytest.mark.parametrize("reason", [0, 1, 5, 11, 12, 15, 17])
def test_reasons_that_are_no_failure_raise_nothing(reason: int) -> None:
    """Connecting, joined, left, through a proxy, renewed, rejoined, echo test."""
    assert reason_error(reason, provider="agora", operation="view") is None


@pytest.mark.parametrize("word", ["LEAVE", "FALLBACK", "FALLBACK_TO_HLS"])
def test_words_that_are_no_failure_raise_nothing(word: str) -> None:
    """The client left, or the SDK went over to something simpler."""
    assert error_of(word, provider="agora", operation="view") is None


def test_every_row_of_the_tables_is_tested() -> None:
    """None is without one."""
    assert {code for code, *_ in NATIVE} == set(ERRORS)
    failing = {reason for reason, meaning in REASONS.items() if meaning is not None}
    assert {reason for reason, *_ in CHANGES} == failing
    assert set(REASONS) == set(range(21))
    words = {word for word, meaning in WEB_ERRORS.items() if meaning is not None}
    assert {word for word, *_ in WEB} == words | {"LICENSE_MISSING"}


def test_only_rejected_tokens_are_renewed() -> None:
    """Who was banned, or replaced by the same uid, does not come back with a new token."""
    rows = [*ERRORS.values(), *REASONS.values(), *WEB_ERRORS.values()]
    met = 0
    for row in filter(None, rows):
        if row.is_renewable:
            met += 1
            assert row.error is CredentialsRejected
            assert row.retry is Retry.SAME
        if row.retry is Retry.NEVER:
            met += 1
            assert not row.is_renewable
    assert met >= 10


@pytest.mark.parametrize("code", [4, 9999, -1, "SOMETHING_NEW"])
def test_an_unknown_code_leads_to_the_next_provider(code: int | str) -> None:
    """It says which it was."""
    exc = error_of(code, provider="agora", operation="publish")
    assert type(exc) is Refused
    assert exc.retry is Retry.NEXT
    assert str(code) in str(exc)


def test_what_is_no_word_of_the_sdk_is_not_quoted() -> None:
    """A client sends it, and it may hold anything."""
    exc = error_of("token=0061234 secret\n", provider="agora", operation="publish")
    assert "0061234" not in str(exc)
    long = error_of("X" * 5000, provider="agora", operation="publish")
    assert len(str(long)) < 200


@pytest.mark.parametrize(
    ("level", "score", "band"),
    [
        (0, None, None),
        (1, 100.0, Band.EXCELLENT),
        (2, 85.0, Band.EXCELLENT),
        (3, 65.0, Band.GOOD),
        (4, 45.0, Band.FAIR),
        (5, 25.0, Band.POOR),
        (6, 0.0, Band.LOST),
        (7, None, None),
        (8, None, None),
        (-1, None, None),
    ],
)
def test_quality_is_a_score(level: int, score: float | None, band: Band | None) -> None:
    """0 is unknown and 1 is best; there is no 7."""
    assert quality_score(level) == score
    assert (None if score is None else band_of(score)) is band


def test_quality_falls_as_agora_s_number_grows() -> None:
    """From 1 to 6."""
    scores = [QUALITY[level] for level in range(1, 7)]
    assert None not in scores
    assert scores == sorted(scores, reverse=True, key=float)  # type: ignore[arg-type]
    assert len(set(scores)) == 6


@pytest.mark.parametrize("score", [-0.1, 100.1, float("nan")])
def test_a_score_outside_the_scale_is_refused(score: float) -> None:
    """Rather than called lost."""
    with pytest.raises(ValueError, match="0 to 100"):
        band_of(score)
