from kaito_ray.local.patience import Patience

ITEM = {"metadata": {"uid": "u"}}


def test_a_failure_is_tried_again_ever_more_seldom_and_told_once() -> None:
    now = [0.0]
    patience = Patience(clock=lambda: now[0])
    waits = []
    for number in range(8):
        assert patience.due(ITEM)
        assert patience.failed(ITEM, RuntimeError("no")) is (number == 0)
        before = now[0]
        while not patience.due(ITEM):
            now[0] += 0.5
        waits.append(now[0] - before)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_what_went_well_is_forgotten() -> None:
    patience = Patience(clock=lambda: 0.0)
    patience.failed(ITEM, RuntimeError("no"))
    patience.well(ITEM)
    assert patience.due(ITEM)
    assert patience.failed(ITEM, RuntimeError("no"))
