import pytest

from benchmarks.paired import interval, met


def test_the_interval_of_five_pairs_is_their_range() -> None:
    assert interval([0.9, 1.1, 1.0, 1.2, 0.95]) == (0.9, 1.2)


def test_the_interval_of_many_pairs_is_narrower_than_their_range() -> None:
    low, high = interval([1.0] * 19 + [9.0])
    assert (low, high) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.96, 1.0, True), (0.95, 1.0, True), (0.8, 0.9, False), (0.9, 1.0, "undecided")]
)
def test_a_target_is_met_when_the_whole_interval_is_on_its_good_side(low: float, high: float, verdict: object) -> None:
    assert met(low, high, at_least=0.95) == verdict


def test_of_a_time_the_good_side_is_below() -> None:
    assert met(0.5, 1.0, at_most=1.5) is True
    assert met(1.6, 2.0, at_most=1.5) is False
    assert met(1.4, 1.6, at_most=1.5) == "undecided"
