from pathlib import Path

from PIL import Image

from tuning import report
from tuning.paths import RunDirectory


def test_tokens_of_a_resumed_run_are_those_of_all_its_attempts() -> None:
    history = [{"num_tokens": 10}, {"num_tokens": 20}, {"eval_loss": 1.0}, {"num_tokens": 5}, {"num_tokens": 15}]
    assert report.tokens(history) == 35
    assert report.tokens(history[:2]) == 20
    assert report.tokens([{"loss": 1.0}]) is None


def test_the_plot_shows_the_curve_and_the_held_out_dots(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.adapter.mkdir()
    report.plot([(1, 3.0), (2, 2.0), (3, 1.0)], [(0, 3.5), (3, 1.2)], directory)
    with Image.open(directory.plot) as image:
        colours = {colour for _, colour in image.getcolors(maxcolors=10_000)}
    assert {(31, 111, 235), (209, 36, 47)} <= colours
