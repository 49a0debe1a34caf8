"""hitless.server.allowance"""

import pytest

from hitless.server.allowance import BYTES_PER_S_MAX, KEPT_S_MAX, Allowance


def test_what_a_line_can_carry_is_believed_to_the_byte():
    one = Allowance(100.0)

    assert one.believed((2_500_000, 1_000), 1, 110.0) == (2_500_000, 1_000)
    assert one.believed((2_500_000, 0), 1, 120.0) == (2_500_000, 0)


def test_what_no_line_can_carry_is_cut_in_proportion():
    sent, received = Allowance(100.0).believed((1 << 52, 1 << 52), 1, 110.0)

    assert sent == received
    assert sent + received == pytest.approx(10 * BYTES_PER_S_MAX)


@pytest.mark.parametrize("pause_s", [0.001, 1.0, 10.0])
def test_who_lies_at_every_chance_gets_no_more_than_the_rate(pause_s):
    one, total = Allowance(0.0), 0.0
    for n in range(1, 1001):
        total += sum(one.believed(((1 << 53) - 1, (1 << 53) - 1), 1, n * pause_s))

    assert total == pytest.approx(1000 * pause_s * BYTES_PER_S_MAX)


def test_a_connection_that_has_just_begun_has_nothing_to_tell():
    """Else connecting again and again would be worth something."""
    assert Allowance(5.0).believed((1_000, 1_000), 1, 5.0) == (0.0, 0.0)


def test_streams_of_one_connection_share_what_all_of_them_may_carry():
    one = Allowance(0.0)

    told = [one.believed((100_000_000, 0), 2, 10.0)[0] for _ in range(3)]

    assert told == [100_000_000, 100_000_000, 50_000_000]


def test_silence_is_not_saved_up_without_end():
    sent, _ = Allowance(0.0).believed(((1 << 53) - 1, 0), 1, 1e6)

    assert sent == pytest.approx(KEPT_S_MAX * BYTES_PER_S_MAX)
