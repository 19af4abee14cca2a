from pathlib import Path

from tests.e2e.estimator.proofs import table


def test_the_page_shows_what_is_proved_of_each_architecture() -> None:
    page = (Path(__file__).parents[3] / "docs" / "planning.md").read_text(encoding="utf-8")
    assert table() in page, "put what `python -m tests.e2e.estimator.proofs` prints into docs/planning.md"
