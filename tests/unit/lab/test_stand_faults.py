"""hitless.lab.faults: the catalogue, and what is on."""

import pytest

from hitless.errors import ConfigError
from hitless.lab.faults import CATALOGUE, Injected, Place, find, numbers


def test_every_fault_has_a_name_of_its_own_and_one_sentence():
    """The catalogue is what `--help` and the docs are made of."""
    assert len({fault.name for fault in CATALOGUE}) == len(CATALOGUE)
    for fault in CATALOGUE:
        assert fault.says
        assert not fault.says.endswith(".")
        assert fault.order


def test_every_place_has_a_fault():
    """All four ways to inject are used."""
    assert {fault.place for fault in CATALOGUE} == set(Place)


def test_only_a_killed_provider_cannot_be_healed():
    """A restart is the one thing an order cannot do."""
    assert [fault.name for fault in CATALOGUE if not fault.heal] == ["killed"]


def test_defaults_are_within_their_own_limits():
    """Breaking without numbers must work for each fault."""
    for fault in CATALOGUE:
        assert numbers(fault, {}) == {p.name: p.default for p in fault.parameters}


def test_an_unknown_fault_names_the_nearest_one():
    """A typing error costs one look."""
    with pytest.raises(ConfigError, match="did you mean 'gray-ingest'"):
        find("grey-ingest")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "much", True, None])
def test_a_number_outside_its_limits_is_refused_by_name(value):
    """The message names field, value and limits."""
    with pytest.raises(ConfigError, match=r"share = .* from 0 to 1"):
        numbers(find("loss"), {"share": value})


def test_a_number_that_the_fault_does_not_have_is_refused():
    """Nothing is ignored silently."""
    with pytest.raises(ConfigError, match="has no 'speed'; it takes: share, delay_s_max"):
        numbers(find("loss"), {"speed": 1})


def test_a_fault_of_another_place_is_not_injected_here():
    """A stand-in does not kill itself."""
    with pytest.raises(ConfigError, match="injected in the signal"):
        Injected().switch("killed", True, {})


def test_faults_go_on_and_off_and_on_again():
    """Switching is idempotent in both directions."""
    injected = Injected()
    assert injected.forwards
    for _ in range(2):
        injected.switch("gray-forwarding", True, {})
        assert not injected.forwards
    injected.switch("loss", True, {"share": 0.5})
    assert injected.loss is not None
    assert (injected.loss.share, injected.loss.delay_s_max) == (0.5, 0.1)
    for _ in range(2):
        injected.switch("gray-forwarding", False, {})
        assert injected.forwards
    assert injected.as_json() == {"loss": {"share": 0.5, "delay_s_max": 0.1}}
    injected.clear()
    assert injected.loss is None
    assert injected.as_json() == {}
