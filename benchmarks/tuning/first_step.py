"""From `kubectl apply` of a tuning Workspace to its first step, broken down.

    python benchmarks/tuning/first_step.py [--json FILE]

Uses the demo's data, registry and manifests, and a control plane of its own that is up already, as in a cluster.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[2] / "examples" / "tuning" / "demo.py"
NAME = "tune-smollm2"
LIMIT_S = 600.0


def load_demo() -> Any:
    spec = importlib.util.spec_from_file_location("tuning_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def seen(home: Path) -> set[str]:
    """Return the moments that have come."""
    words = ["kubectl", f"--kubeconfig={home / 'kubeconfig'}", "get", "--output=json"]

    def get(*what: str) -> dict[str, Any]:
        done = subprocess.run([*words, *what], capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    job = (get("rayjob", NAME)).get("status") or {}
    status = (get("workspace", NAME)).get("status") or {}
    logs = [path.read_text(errors="replace") for path in Path("/tmp").glob(f"kr-*/*/session_*/logs/job-driver-{NAME}*")]
    log = "".join(logs)
    moments = {
        "the RayJob exists": bool(job),
        "Ray runs, the job is submitted": job.get("jobDeploymentStatus") == "Running",
        "the job prepares data": '"phase":"Data"' in log,
        "the model is loaded, the base model measured": '"phase":"Training"' in log,
        "the first step is done": '"step":1,' in log,
        "kubectl shows it": ((status.get("tuning") or {}).get("step") or 0) >= 1,
    }
    return {moment for moment, come in moments.items() if come}


def measure(home: Path) -> dict[str, float]:
    """Return seconds since the apply, by moment."""
    demo = load_demo()
    commands = demo.Shown(home)
    found: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        demo.data_server(Path(scratch)) as data,
        demo.registry(Path(scratch)) as images,
    ):
        try:
            commands.cli("up", "--detach")
            began = time.monotonic()
            demo.apply_tuning(commands, data_host=data, registry_host=images)
            while "kubectl shows it" not in found and time.monotonic() < began + LIMIT_S:
                for moment in seen(home):
                    found.setdefault(moment, round(time.monotonic() - began, 1))
                time.sleep(0.25)
        finally:
            commands.cli("down")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = measure(Path(home) / "home")
    before = 0.0
    print("| Moment | s after apply | of these |\n|---|---|---|")
    for moment, seconds in sorted(found.items(), key=lambda item: item[1]):
        print(f"| {moment} | {seconds:.1f} | {seconds - before:.1f} |")
        before = seconds
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    return 0 if "the first step is done" in found else 1


if __name__ == "__main__":
    sys.exit(main())
