"""Durations that outlive a clock being set."""

from kaito_ray.local import stopwatch
from kaito_ray.local.stopwatch import Stopwatches


class Clocks:
    """The one on the wall says how long ago everything was; the other one only goes on."""

    def __init__(self, monkeypatch) -> None:
        self.wall_s = 0.0
        self.steady_s = 1000.0
        monkeypatch.setattr(stopwatch, "seconds_since", lambda _: self.wall_s)
        self.watches = Stopwatches(lambda: self.steady_s)

    def seconds(self, then: str = "2026-01-01T00:00:00Z") -> float:
        return self.watches.seconds_since(then, what="a")


def test_a_date_is_believed_when_it_is_first_seen(monkeypatch):
    clocks = Clocks(monkeypatch)
    clocks.wall_s = 30.0
    assert clocks.seconds() == 30.0


def test_from_then_on_setting_the_clock_changes_nothing(monkeypatch):
    clocks = Clocks(monkeypatch)
    clocks.seconds()
    clocks.wall_s, clocks.steady_s = 86_400.0, 1007.0
    assert clocks.seconds() == 7.0


def test_a_date_to_come_is_now(monkeypatch):
    clocks = Clocks(monkeypatch)
    clocks.wall_s = -86_400.0
    assert clocks.seconds() == 0.0


def test_another_date_is_another_beginning(monkeypatch):
    clocks = Clocks(monkeypatch)
    clocks.seconds()
    clocks.steady_s += 60
    assert clocks.seconds("2026-01-01T00:01:00Z") == 0.0
