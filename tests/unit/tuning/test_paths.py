from pathlib import Path

import pytest

from kaito_ray.api.tuning_args import TuningArgs
from tuning.paths import on_this_machine, run_directory

ARGS = TuningArgs.from_wire(
    {
        "workspace": "w",
        "namespace": "default",
        "preset": "p",
        "source": {"hub": "o/p"},
        "method": "qlora",
        "input": {"directory": "/mnt/data"},
        "output": {"image": "r.example.com/a:1"},
    }
)


def _name(**changes: object) -> str:
    return run_directory(ARGS.model_copy(update=changes)).name


def test_the_same_run_finds_its_checkpoints_wherever_its_adapter_goes() -> None:
    other = ARGS.output.model_copy(update={"image": "r.example.com/b:2"})
    assert _name() == _name(output=other, workers=2, resume=False, credentials="/mnt/registry")


def test_another_method_or_config_is_another_run() -> None:
    assert len({_name(), _name(method="lora"), _name(training_config={"LoraConfig": {"r": 4}})}) == 3


def test_the_containers_paths_are_below_the_mount_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAITO_RAY_MOUNT_ROOT", "/tmp/root")
    assert on_this_machine("/mnt/data") == Path("/tmp/root/mnt/data")
    monkeypatch.delenv("KAITO_RAY_MOUNT_ROOT")
    assert on_this_machine("/mnt/data") == Path("/mnt/data")
