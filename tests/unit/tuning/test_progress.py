"""What workers tell reaches the driver's log whole, in order, and each field as it was told last."""

from pathlib import Path

import pytest

from kaito_ray.api.status import TuningStatus
from kaito_ray.api.tuning_args import progress
from tuning.progress import News, printed, tell


def test_each_line_has_all_that_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "progress.jsonl"
    with printed(file):
        tell(file, TuningStatus(step=1, steps=4, loss=2.5))
        tell(file, TuningStatus(checkpoint="checkpoint-1"))
        tell(file, TuningStatus(step=2, steps=4, loss=2.0))
    told = [p.status for p in progress(capsys.readouterr().out.splitlines())]
    assert [(s.step, s.loss, s.checkpoint) for s in told] == [
        (1, 2.5, None),
        (1, 2.5, "checkpoint-1"),
        (2, 2.0, "checkpoint-1"),
    ]


def test_half_a_line_waits_for_its_other_half(capsys: pytest.CaptureFixture[str]) -> None:
    news = News()
    news.print('{"step": 1}\n{"st')
    news.print('ep": 2}\n')
    assert [p.status.step for p in progress(capsys.readouterr().out.splitlines())] == [1, 2]


def test_a_run_that_is_started_again_does_not_tell_the_old_ones_news(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "progress.jsonl"
    tell(file, TuningStatus(step=9))
    with printed(file):
        pass
    assert capsys.readouterr().out == ""
