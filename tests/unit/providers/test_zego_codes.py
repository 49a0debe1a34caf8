"""What ZEGOCLOUD's codes mean: each documented one has a row, by the action it answers."""

from __future__ import annotations

import pytest

from hitless.errors import (
    ContractBroken,
    CredentialsRejected,
    LocalFault,
    MediaLost,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.providers import scale
from hitless.providers.scale import Band, band_of
from hitless.providers.zego_codes import (
    ACTIONS,
    COMMON,
    MEDIA,
    QUALITY,
    ROOM,
    SDK,
    Group,
    api_meaning,
    quality_score,
    sdk_error,
)


COMMON_ROWS = [
    (100000000, ContractBroken, Retry.NEXT, "Host"),
    (100000001, CredentialsRejected, Retry.NEXT, "App ID"),
    (100000002, ContractBroken, Retry.NEXT, "Timestamp"),
    (100000003, ContractBroken, Retry.NEXT, "whole seconds"),
    (100000004, CredentialsRejected, Retry.NEXT, "clock"),
    (100000005, CredentialsRejected, Retry.SAME, "ServerSecret"),
    (100000006, ContractBroken, Retry.NEXT, "Action"),
    (100000007, ContractBroken, Retry.NEXT, "Action"),
    (100000008, ContractBroken, Retry.NEXT, "Nonce"),
    (100000009, ContractBroken, Retry.NEXT, "Signature"),
    (100000010, CredentialsRejected, Retry.NEXT, "App ID"),
    (100000011, CredentialsRejected, Retry.NEXT, "App ID"),
    (100000013, ContractBroken, Retry.NEXT, "Version"),
    (100000014, ContractBroken, Retry.NEXT, "2.0"),
    (100000015, Refused, Retry.SAME, "gateway"),
    (100000016, Refused, Retry.NEXT, "environment"),
    (100000017, Refused, Retry.NEXT, "not enabled"),
]

ROOM_ROWS = [
    (1, Refused, Retry.SAME, "failed"),
    (2, ContractBroken, Retry.NEXT, "argument"),
    (3, ContractBroken, Retry.NEXT, "too long"),
    (8, ContractBroken, Retry.NEXT, "decoding"),
    (9, Refused, Retry.NEXT, "permitted"),
    (104, Refused, Retry.NEXT, "no such room"),
    (105, Refused, Retry.NEXT, "no such user"),
    (123, Refused, Retry.SAME, "announced"),
    (124, Refused, Retry.SAME, "withdrawn"),
    (138, Refused, Retry.NEXT, "no such stream"),
    (154, Refused, Retry.SAME, "list"),
    (206, Refused, Retry.NEXT, "too many calls"),
    (207, Refused, Retry.NEXT, "too many calls"),
    (1012, Refused, Retry.NEXT, "several users"),
    (5024, Refused, Retry.NEXT, "no such room"),
    (50001, Refused, Retry.NEXT, "no such room"),
    (50003, Refused, Retry.NEXT, "no such user"),
    (50011, ContractBroken, Retry.NEXT, "at most 5"),
]

MEDIA_ROWS = [
    (1, Refused, Retry.SAME, "failed"),
    (2, ContractBroken, Retry.NEXT, "argument"),
    (3, CredentialsRejected, Retry.SAME, "ServerSecret"),
    (1001, Refused, Retry.NEXT, "node"),
    (1002, Refused, Retry.NEXT, "publish to"),
    (1003, Refused, Retry.NEXT, "play from"),
    (1005, Refused, Retry.NEXT, "not online"),
    (1006, ContractBroken, Retry.NEXT, "argument"),
    (1010, Refused, Retry.NEXT, "too many calls"),
    (3000, CredentialsRejected, Retry.NEXT, "App ID"),
    (3001, Refused, Retry.SAME, "inside"),
    (3002, CredentialsRejected, Retry.NEXT, "clock"),
    (3003, Refused, Retry.NEXT, "token"),
    (5000, Refused, Retry.SAME, "inside"),
    (5001, Refused, Retry.SAME, "inside"),
    (5002, Refused, Retry.SAME, "inside"),
    (5003, CredentialsRejected, Retry.SAME, "ServerSecret"),
    (5005, ContractBroken, Retry.NEXT, "invalid request"),
    (5006, Refused, Retry.SAME, "inside"),
    (5007, Refused, Retry.NEXT, "too many calls"),
    (30002, Refused, Retry.NEXT, "too many calls"),
    (30003, Refused, Retry.SAME, "inside"),
    (30004, ContractBroken, Retry.NEXT, "IsTest"),
    (30005, CredentialsRejected, Retry.NEXT, "App ID"),
    (30006, ContractBroken, Retry.NEXT, "StreamId"),
    (30009, ContractBroken, Retry.NEXT, "StreamId"),
    (30010, ContractBroken, Retry.NEXT, "dispatch"),
    (30011, ContractBroken, Retry.NEXT, "address"),
    (40005, CredentialsRejected, Retry.SAME, "ServerSecret"),
    (41004, Refused, Retry.NEXT, "no such stream"),
    (41006, Refused, Retry.NEXT, "closed"),
    (42001, Refused, Retry.SAME, "forbidden"),
    (42002, Refused, Retry.SAME, "allowed again"),
]

SDK_ROWS = [
    (1000002, Refused, Retry.SAME, "not in the room"),
    (1000017, LocalFault, None, "no network"),
    (1001004, CredentialsRejected, Retry.NEXT, "App ID"),
    (1002031, Unreachable, Retry.SAME, "login"),
    (1002033, CredentialsRejected, Retry.SAME, "token"),
    (1002050, Refused, Retry.NEVER, "same user id"),
    (1002053, Unreachable, Retry.NEXT, "gave up"),
    (1002055, Refused, Retry.NEVER, "kicked out"),
    (1002078, CredentialsRejected, Retry.SAME, "expired"),
    (1002099, Refused, Retry.SAME, "server"),
    (1003025, Refused, Retry.NEVER, "forbidden"),
    (1003028, Refused, Retry.NEXT, "another publisher"),
    (1004002, NotOnAir, None, "nobody publishes"),
    (1004020, MediaLost, Retry.NEXT, "interrupted"),
    (1004025, Refused, Retry.NEVER, "forbidden"),
    (1100002, Unreachable, Retry.SAME, "in time"),
    (1100003, Unreachable, Retry.SAME, "broke"),
    (1102001, Unreachable, Retry.NEXT, "90 s"),
    (1102016, CredentialsRejected, Retry.NEXT, "token04"),
    (1102018, CredentialsRejected, Retry.SAME, "expired"),
    (1102023, Unreachable, Retry.SAME, "media server"),
    (1103020, Unreachable, Retry.SAME, "publish"),
    (1103021, Unreachable, Retry.SAME, "publish"),
    (1103028, Unreachable, Retry.SAME, "ICE"),
    (1103051, Unreachable, Retry.NEXT, "gave up"),
    (1104020, Unreachable, Retry.SAME, "play"),
    (1104021, Unreachable, Retry.SAME, "play"),
    (1104028, Unreachable, Retry.SAME, "ICE"),
    (1104031, Unreachable, Retry.NEXT, "gave up"),
]


@pytest.mark.parametrize(
    ("action", "code", "error", "retry", "says"),
    [
        *(("AddStream", *row) for row in COMMON_ROWS),
        *(("RTMPDispatchV2", *row) for row in COMMON_ROWS),
        *(("KickoutUser", *row) for row in ROOM_ROWS),
        *(("ForbidRTCStream", *row) for row in MEDIA_ROWS),
    ],
)
def test_a_code_of_the_api_is_an_error_with_advice(
    action: str, code: int, error: type, retry: Retry, says: str
) -> None:
    """The same number means another thing to another group."""
    meaning = api_meaning(action, code)
    assert meaning.error is error
    assert meaning.retry is retry
    assert says in meaning.says
    if "too many calls" in says:
        assert meaning.retry_after_s == 1.0


@pytest.mark.parametrize(("code", "error", "retry", "says"), SDK_ROWS)
def test_a_code_of_an_sdk_is_an_error_with_advice(
    code: int, error: type, retry: Retry | None, says: str
) -> None:
    """An expired token is 1102018 on the web and 1002078 on native."""
    exc = sdk_error(code, provider="zegocloud", operation="view")
    assert type(exc) is error
    assert says in str(exc)
    assert str(code) in str(exc)
    if retry is not None:
        assert isinstance(exc, ProviderError)
        assert exc.retry is retry
        assert (exc.provider, exc.operation) == ("zegocloud", "view")


def test_every_row_of_the_tables_is_tested() -> None:
    """None is without one, and every action has a group."""
    for rows, table in (
        (COMMON_ROWS, COMMON),
        (ROOM_ROWS, ROOM),
        (MEDIA_ROWS, MEDIA),
        (SDK_ROWS, SDK),
    ):
        assert {code for code, *_ in rows} == set(table)
    assert set(ACTIONS.values()) == set(Group)
    assert not set(COMMON) & (set(ROOM) | set(MEDIA))


def test_numbers_are_read_by_their_action() -> None:
    """3 is an argument's fault for rooms, and a signature's for media."""
    assert api_meaning("KickoutUser", 3).error is ContractBroken
    assert api_meaning("RTMPDispatchV2", 3).error is CredentialsRejected


def test_only_rejected_credentials_are_renewed() -> None:
    """Who was kicked or forbidden does not come back with a new token."""
    met = 0
    for row in [*COMMON.values(), *ROOM.values(), *MEDIA.values(), *SDK.values()]:
        if row.is_renewable:
            met += 1
            assert row.error is CredentialsRejected
            assert row.retry is Retry.SAME
        if row.retry is Retry.NEVER:
            met += 1
            assert not row.is_renewable
    assert met >= 8


@pytest.mark.parametrize("code", [-1, 4711, 123456789])
def test_an_unknown_code_leads_to_the_next_provider(code: int) -> None:
    """It says which it was."""
    assert api_meaning("AddStream", code).error is Refused
    exc = sdk_error(code, provider="zegocloud", operation="publish")
    assert type(exc) is Refused
    assert exc.retry is Retry.NEXT
    assert str(code) in str(exc)


@pytest.mark.parametrize(
    ("level", "score", "band"),
    [
        (-1, None, None),
        (0, 100.0, Band.EXCELLENT),
        (1, 80.0, Band.GOOD),
        (2, 60.0, Band.FAIR),
        (3, 35.0, Band.POOR),
        (4, 0.0, Band.LOST),
        (5, None, None),
        (6, None, None),
    ],
)
def test_quality_is_a_score(level: int, score: float | None, band: Band | None) -> None:
    """0 is best here, and unknown at Agora."""
    assert quality_score(level) == score
    assert (None if score is None else band_of(score)) is band


def test_quality_falls_as_zego_s_number_grows() -> None:
    """From 0 to 4, through every band."""
    scores = [QUALITY[level] for level in range(5)]
    assert scores == sorted(scores, reverse=True, key=float)  # type: ignore[arg-type]
    assert {band_of(score) for score in scores if score is not None} == set(scale.Band)
