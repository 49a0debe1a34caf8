"""`hitless drill --providers`: what is no mix is refused before anything starts"""

from __future__ import annotations

import pytest

from hitless.lab.stage import PROVIDERS, SERVERS
from hitless.providers import installed


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("livekit", "no drill runs on livekit: no package that can be installed here brings"),
        ("janus,memory", "no drill runs on memory: it lives in one process"),
        ("whip", "no drill runs on whip: it is what the stand-in called webrtc speaks"),
        ("", "give names with a comma between them"),
        ("janus,,agora", "give names with a comma between them"),
        ("janus,tin-can", "no provider called 'tin-can' in the lab; there are: agora"),
        ("agora, agora", "each once"),
        ("agora,zegocloud,webrtc,janus", "up to 3 names"),
    ],
)
def test_a_mix_that_cannot_be_is_one_line_with_the_reason(run, given, says):
    """
    And the exit status of bad input.
    """
    status, out, err = run("drill", "provider-killed", "--providers", given)

    assert 2 == status
    assert says in err
    assert 1 == len(err.strip().splitlines())
    assert "" == out


def test_every_adapter_is_in_the_lab_or_has_a_reason_why_not():
    """
    A new one needs a place, or a line.
    """
    from hitless.cli.drill import _NO_DRILL

    assert set(installed()) - {*PROVIDERS, *SERVERS} == set(_NO_DRILL)
