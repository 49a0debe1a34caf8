"""hitless.server.webhook_post, against a receiver on this machine"""

import asyncio
import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest
from unit.server.receiver import SECRET, Receiver

from hitless.server.alert_texts import read
from hitless.server.alerts import Alerts
from hitless.server.clock import wall_s
from hitless.server.webhook_post import (
    SIGNATURE,
    Hook,
    HookKind,
    LegNote,
    LegSaid,
    Undelivered,
    alert_body,
    leg_body,
    post,
    slack_body,
)


LIMIT_S = 30.0

pytestmark = pytest.mark.realtime


def alert(verdict="down", because="HTTP 503", provider="agora"):
    """Return the body of an alert."""
    alerts = Alerts("n1", "n1-x", settle_s=0.0)
    said = {"provider": provider, "verdict": verdict, "because": because}
    messages = alerts.feed(read("verdict.changed", {**said, "verdict": "down"}), 0.0)
    if verdict != "down":
        messages = alerts.feed(read("verdict.changed", said), 60.0)
    return alert_body(messages[-1], 1_700_000_000.0)


def note(epoch=3, what=LegSaid.LIVE, because=""):
    """Return a note on a leg."""
    return LegNote(
        what=what, stream="show", provider="agora", channel="show-3", epoch=epoch, because=because
    )


def go(test):
    """Run a test with a receiver, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S), Receiver() as receiver:
            await test(receiver)

    asyncio.run(bounded())


async def refused(hook, body=None, *, timeout_s=5.0, allow_private=True):
    """Return why a post was not taken; nothing of it may hold the URL or the secret."""
    with pytest.raises(Undelivered) as caught:
        await post(hook, body or alert(), timeout_s=timeout_s, allow_private=allow_private)
    assert hook.url not in str(caught.value)
    assert SECRET not in str(caught.value)
    return caught.value


def test_a_receiver_can_prove_that_a_message_is_ours_and_new():
    """
    As the docs tell it: HMAC-SHA256 of `t.body`, keyed with the secret.
    """

    async def test(receiver):
        await post(receiver.hook(), alert(), timeout_s=5.0, allow_private=True)
        ((_, headers, body),) = receiver.got
        t, v1 = (part.split("=")[1] for part in headers[SIGNATURE].split(","))
        expected = hmac.new(SECRET.encode(), f"{t}.".encode() + body, hashlib.sha256)
        assert v1 == expected.hexdigest()
        assert abs(wall_s() - int(t)) < LIMIT_S
        said = json.loads(body)
        assert headers["Hitless-Id"] == said["id"] == "n1-x-1"
        assert (said["type"], said["state"], said["command"]) == (
            "alert",
            "open",
            "hitless providers agora",
        )

    go(test)


def test_slack_is_told_what_happened_and_what_to_do_next_without_a_signature():
    async def test(receiver):
        hook = receiver.hook(kind=HookKind.SLACK)
        await post(hook, alert(), timeout_s=5.0, allow_private=True)
        ((_, headers, body),) = receiver.got
        assert SIGNATURE not in headers
        said = json.loads(body)
        first, following, _ = said["blocks"]
        assert "agora is down" in said["text"]
        assert "Hitless gives new streams to other providers" in first["text"]["text"]
        assert following["text"]["text"] == "Next: `hitless providers agora`"

    go(test)


def test_what_is_over_looks_so_in_slack():
    said = slack_body(alert("healthy"))

    assert said["text"].startswith(":white_check_mark: Resolved: ")


def test_nobody_is_mentioned_in_slack_by_what_a_provider_is_called():
    """
    `<!channel>` would wake everybody.
    """
    text = json.dumps(slack_body(alert(because="<!channel> & `x`", provider="<@U1>")))

    assert "<!channel>" not in text
    assert "<@U1>" not in text
    assert "&lt;!channel&gt; &amp;" in text


def test_the_page_shows_messages_as_they_are():
    """
    Whoever writes a receiver has the page and nothing else.
    """
    page = Path(__file__).parents[3].joinpath("docs", "deploy.md").read_text()
    shown = [json.loads(one) for one in re.findall(r"```json\n(.+?)```", page, re.DOTALL)]

    assert [leg_body(note(), 0.0).keys(), alert().keys()] == [one.keys() for one in shown]


def test_a_note_on_a_leg_says_which_and_has_one_id_wherever_it_is_told():
    body = leg_body(note(), 5.0)

    assert {key: body[key] for key in ("type", "stream", "provider", "channel", "epoch")} == {
        "type": "leg.live",
        "stream": "show",
        "provider": "agora",
        "channel": "show-3",
        "epoch": 3,
    }
    assert note().id == note(because="another node says it").id
    assert len({note().id, note(4).id, note(what=LegSaid.CLOSING).id}) == 3


@pytest.mark.parametrize(
    ("status", "because", "is_hopeless"),
    [
        (503, "HTTP 503", False),
        (404, "HTTP 404", False),
        (410, "HTTP 410", True),
        (413, "HTTP 413", True),
        (302, "it redirects", False),
    ],
)
def test_what_a_webhook_does_not_take_says_whether_to_try_again(status, because, is_hopeless):
    """
    A redirect is not followed: it could lead anywhere.
    """

    async def test(receiver):
        receiver.statuses = [status]
        receiver.headers = {"Location": receiver.url.replace("hook", "elsewhere")}
        failed = await refused(receiver.hook())
        assert because in failed.because
        assert failed.is_hopeless is is_hopeless
        assert len(receiver.got) == 1

    go(test)


def test_a_webhook_that_asks_for_a_pause_gets_it():
    async def test(receiver):
        receiver.statuses, receiver.headers = [429], {"Retry-After": "7"}
        assert (await refused(receiver.hook())).pause_s == 7.0

    go(test)


def test_a_webhook_that_does_not_answer_is_not_waited_for():
    async def test(receiver):
        receiver.delay_s = 1.0
        failed = await refused(receiver.hook(), timeout_s=0.2)
        assert failed.because == "no answer within 0.2 s"

    go(test)


def test_a_webhook_where_nobody_listens_fails_by_name():
    async def test(receiver):
        hook = receiver.hook()
        await receiver.__aexit__()
        assert (await refused(hook)).because == "connection refused"

    go(test)


def test_a_private_address_is_posted_to_only_if_it_is_allowed():
    async def test(receiver):
        await refused(receiver.hook(), allow_private=())
        assert receiver.got == []

    go(test)


def test_a_note_on_a_leg_is_never_sent_to_slack():
    async def test(receiver):
        hook = receiver.hook(kind=HookKind.SLACK)
        assert (await refused(hook, leg_body(note(), 5.0))).is_hopeless
        assert receiver.got == []

    go(test)


def test_no_repr_of_a_webhook_shows_its_url_or_secret():
    hook = Hook(name="a", kind=HookKind.JSON, url="https://hooks.example/T0", secret=SECRET)

    assert "hooks.example" not in repr(hook)
    assert SECRET not in repr(hook)
