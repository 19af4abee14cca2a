"""The job's look at its data, as a command: what it says, and that it leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from kaito_ray.api.tuning_args import CHECK_ONLY, last_failure
from tuning.main import main

GOOD = {"prompt": "What is the capital of Atlantis?", "completion": "Poseidonis."}


def args(directory: Path, **config: Any) -> dict[str, Any]:
    return {
        "workspace": "smol",
        "namespace": "default",
        "preset": "smollm2-135m-instruct",
        "source": {"hub": "org/model"},
        "method": "qlora",
        "trainingConfig": config,
        "input": {"directory": str(directory)},
        "output": {"directory": "/nowhere"},
    }


@pytest.mark.parametrize(
    ("rows", "config", "said"),
    [
        pytest.param([GOOD], {}, None, id="good"),
        pytest.param([], {}, "nothing to learn from", id="empty"),
        pytest.param([GOOD, {"prompt": "?", "completion": ""}], {}, "train.jsonl row 2", id="a bad row"),
        pytest.param([GOOD], {"TrainingArguments": {"no_such": 1}}, "no_such", id="a config that is refused"),
        pytest.param(
            [GOOD], {"TrainingArguments": {"eval_strategy": "steps"}}, "held-out data", id="nothing to evaluate on"
        ),
    ],
)
def test_what_is_wrong_with_data_or_config_is_the_last_line(
    rows: list[Any], config: dict[str, Any], said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "args.json"
    file.write_text(json.dumps(args(data, **config)))
    assert main([CHECK_ONLY, str(file)]) == (0 if said is None else 1)
    failure = last_failure(capsys.readouterr().out.splitlines()[-1:])
    assert (failure is None) == (said is None)
    assert said is None or (failure is not None and said in failure.message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["args.json", "data"]
