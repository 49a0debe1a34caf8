"""Every call of our client of ZEGOCLOUD's server API, and how one is made to a stand-in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import control_calls
from control_stand_in import Answering, Asked, StandIn

from hitless.providers.zego_api import ZegoApi


APP = 1234567890
SECRET = "9193cc662a4c0ec135ec71fb57194b38"
USER = "user-4004004"
NOW_S = 1_700_000_000.25

NODE = "rtmp://81.69.49.115:1935/1234567890/show"
COUNTS = {"UserCountList": [{"RoomId": "a", "UserCount": 2, "AdminUserCount": 0}]}
STREAMS = {
    "StreamList": [
        {
            "StreamId": "show",
            "UserId": USER,
            "UserName": "x",
            "CreateTime": 1642045110123,
            "StreamNumberId": 10,
        }
    ]
}

Use = Callable[[ZegoApi], Awaitable[Any]]
"""Any: whatever the call returns."""

CALLS: dict[str, Use] = {
    "DescribeUserNum": lambda api: api.user_counts(["a", "b"]),
    "DescribeSimpleStreamList": lambda api: api.streams("a"),
    "DescribeRTCStreamState": lambda api: api.stream_state("show"),
    "KickoutUser": lambda api: api.kick_out("a", [USER]),
    "ForbidRTCStream": lambda api: api.forbid_stream("show"),
    "ResumeRTCStream": lambda api: api.resume_stream("show"),
    "AddStream": lambda api: api.add_stream("a", USER, "show"),
    "DeleteStream": lambda api: api.delete_stream("a", USER, "show"),
    "RTMPDispatchV2": lambda api: api.rtmp_urls("show"),
}
OWN: dict[str, list[tuple[str, str]]] = {
    "DescribeUserNum": [("RoomId[]", "a"), ("RoomId[]", "b")],
    "DescribeSimpleStreamList": [("RoomId", "a")],
    "DescribeRTCStreamState": [("StreamId", "show"), ("Sequence", "1700000000250")],
    "KickoutUser": [("RoomId", "a"), ("UserId[]", USER)],
    "ForbidRTCStream": [("StreamId", "show"), ("Sequence", "1700000000250")],
    "ResumeRTCStream": [("StreamId", "show"), ("Sequence", "1700000000250")],
    "AddStream": [("RoomId", "a"), ("UserId", USER), ("StreamId", "show")],
    "DeleteStream": [("RoomId", "a"), ("UserId", USER), ("StreamId", "show")],
    "RTMPDispatchV2": [("StreamId", "show"), ("Sequence", "1700000000250"), ("Type", "push")],
}
DATA: dict[str, Any] = {
    "DescribeUserNum": COUNTS,
    "DescribeSimpleStreamList": STREAMS,
    "RTMPDispatchV2": [NODE],
}
"""What a success brings (Any: JSON)."""

FINE_IF_ABSENT = {
    "DescribeSimpleStreamList": {104, 105, 138, 5024, 50001, 50003},
    "KickoutUser": {104, 105, 138, 5024, 50001, 50003},
    "DeleteStream": {104, 105, 138, 5024, 50001, 50003},
    "DescribeRTCStreamState": {41004, 41006},
}


def reply(code: int = 0, data: Any = None, message: str = "success") -> tuple[int, Any]:
    """Return an answer of HTTP 200 with a code (Any: JSON)."""
    body = {"Code": code, "Message": message, "RequestId": "343649807833778782"}
    return 200, body if data is None else {**body, "Data": data}


def api_of(origin: str, **settings: Any) -> ZegoApi:
    """Make a client of whatever is at an address."""
    known = {"app_id": APP, "server_secret": SECRET, "base": origin, "wall_s": lambda: NOW_S}
    return ZegoApi("zegocloud", **{**known, **settings})


def client_of(stand_in: StandIn, **settings: Any) -> ZegoApi:
    """Make a client of a stand-in."""
    return api_of(stand_in.origin, **settings)


def ask(answering: Answering, use: Use, **settings: Any) -> tuple[Any, list[Asked]]:
    """Return what a call returned or raised, and what the stand-in was asked."""
    return control_calls.ask(partial(client_of, **settings), answering, use)


def assert_nothing_is_told(exc: BaseException, asked: list[Asked]) -> None:
    """No secret, signature, nonce or user in a message, a repr, a cause or a traceback."""
    told = control_calls.told(exc)
    secrets = [SECRET, USER]
    for each in asked:
        query = dict(each.query)
        secrets += [query["Signature"], query["SignatureNonce"]]
    assert all(secrets)
    for secret in secrets:
        assert secret not in told
