import json
import logging
import os
import sys
from pathlib import Path

import pytest

from deployments.json_logs import JsonStdout, line


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("ray.serve").makeRecord("ray.serve", logging.INFO, "f.py", 1, message, args, None)
    vars(made).update(extra)
    return made


def test_a_record_is_one_line_of_json() -> None:
    entry = json.loads(line(record("loaded\n%s", "twice", adapter="a")))
    assert entry.items() >= {"level": "INFO", "logger": "ray.serve", "message": "loaded\ntwice", "adapter": "a"}.items()
    assert "\n" not in line(record("two\nlines"))


def test_the_time_is_utc_with_milliseconds() -> None:
    made = record("x")
    made.created, made.msecs = 1_700_000_000.25, 250
    assert json.loads(line(made))["time"] == "2023-11-14T22:13:20.250Z"


def test_an_exception_is_part_of_its_line() -> None:
    made = record("failed")
    try:
        int("no number")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert "ValueError: invalid literal" in json.loads(line(made))["exception"]


def test_a_value_that_is_no_json_is_written_as_text() -> None:
    assert json.loads(line(record("x", path=Path("/a"))))["path"] == "/a"


def test_the_handler_writes_past_python_to_the_process_output(capfd: pytest.CaptureFixture[str]) -> None:
    JsonStdout().emit(record("hello"))
    assert json.loads(capfd.readouterr().out)["message"] == "hello"


def test_the_handler_writes_each_line_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(data))
    JsonStdout().emit(record("hello"))
    assert len(writes) == 1
    assert writes[0].endswith(b"}\n")
