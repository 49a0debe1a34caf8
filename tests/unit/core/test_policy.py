"""hitless.core.policy"""

import pytest

from hitless import ConfigError, Policy, ReturnPolicy


def test_the_defaults_are_possible():
    """
    Making a policy without a word works, and the overlap follows the interval of the polls.
    """
    assert Policy().overlap == 35.0
    assert Policy(health_interval_s=1.0).overlap == 6.0
    assert Policy(overlap_s=2.5).overlap == 2.5


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("health_interval_s", -1, "0.05 to 3600 s"),
        ("health_interval_s", None, "0.05 to 3600 s"),
        ("health_interval_s", "30", "0.05 to 3600 s"),
        ("health_interval_s", float("nan"), "0.05 to 3600 s"),
        ("max_retries", 1.5, "whole number"),
        ("max_retries", True, "0 to 20"),
        ("max_failures", 0, "1 to 100"),
        ("media_beats_health", "no", "true or false"),
        ("return_policy", "sometimes", "stay, return"),
        ("overlap_s", -0.1, "0 to 3600 s"),
    ],
)
def test_an_impossible_value_names_the_field_and_its_limits(field, value, hint):
    """
    Whatever is wrong with a value, the message says where and what would do.
    """
    with pytest.raises(ConfigError, match=field) as caught:
        Policy(**{field: value})

    assert hint in str(caught.value)


def test_a_word_may_be_given_as_text():
    """
    What a file or a JSON document says is taken as the choice that it names.
    """
    assert Policy(return_policy="return").return_policy is ReturnPolicy.RETURN


@pytest.mark.parametrize(
    "pair", [{"retry_delay_s": 3.0}, {"ban_s": 400.0}], ids=["retry_delay_s", "ban_s"]
)
def test_a_first_delay_longer_than_the_longest_is_refused(pair):
    """
    Two numbers that contradict each other are an error, not a guess.
    """
    with pytest.raises(ConfigError, match="must not exceed"):
        Policy(**pair)
