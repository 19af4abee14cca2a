"""Building the application must not import vLLM: Ray does it in a process that is then thrown away."""

import subprocess
import sys

BUILD = """
import sys
from deployments.app import build_app
args = {"workspace": "w", "namespace": "default", "servedModelName": "m", "source": {"hub": "org/m"}, "device": "cpu"}
print(build_app(args)._bound_deployment.func_or_class)
print(sorted({"vllm", "torch", "transformers"} & set(sys.modules)))
"""


def test_the_application_names_its_class_and_is_built_without_vllm() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    replica, imported = done.stdout.splitlines()[-2:]
    assert (replica, imported) == ("deployments.replica.Replica", "[]")
