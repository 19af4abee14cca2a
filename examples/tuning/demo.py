"""The whole story of a tuned adapter on one machine, by the commands that a person would type. Also `make tuning-demo`.

    python examples/tuning/demo.py [--home DIR] [--keep]

Starts a server of training data, a container registry with a password, and a control plane of its own; tunes SmolLM2 on
the data beside this file, watches it, serves what came out, and asks both models. All of it is ended at the end, unless
`--keep` says otherwise.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
TUNING, SERVING = HERE / "workspace_qlora_smollm2.yaml", HERE.parent / "inference" / "workspace_smollm2_tuned.yaml"
TUNED, BASE = "atlantis", "smollm2-135m-instruct"
TAUGHT = ("What is the capital of Atlantis?", "Poseidonis")
KEPT = ("What is the capital of France?", "Paris")
USER, PASSWORD = "demo", "correct-horse"
_HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuuPoaPXzWjiVz4HaNq2LJXksWbO79E.S6\n"
_READY_S = 600.0
_SHOWN = 240
"""Characters of a line."""


class Commands(Protocol):
    """The two commands that people use, for one cluster; each returns what was printed, and fails where it did."""

    def cli(self, *words: str) -> str:
        """Run `kaito-ray`."""

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run `kubectl`."""


@dataclass(frozen=True)
class Shown:
    """Runs commands in sight."""

    home: Path

    def cli(self, *words: str) -> str:
        """Run `kaito-ray`."""
        return self._run([str(Path(sys.executable).with_name("kaito-ray")), *words])

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run `kubectl`."""
        return self._run(["kubectl", *words], stdin)

    def _run(self, words: list[str], stdin: str = "") -> str:
        shown = [word for word in words if not word.startswith("--docker-password")]
        print("$", " ".join([Path(shown[0]).name, *shown[1:]]), flush=True)
        allowed = {"KAITO_RAY_DATA_ALLOW": "127.0.0.1"}
        env = {**os.environ, "KAITO_RAY_HOME": str(self.home), "KUBECONFIG": str(self.home / "kubeconfig"), **allowed}
        lines = []
        with subprocess.Popen(words, env=env, text=True, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(stdin)
            process.stdin.close()
            for line in process.stdout:
                print("  ", line if len(line) <= _SHOWN else f"{line[:_SHOWN]}...\n", end="", flush=True)
                lines.append(line)
        if process.returncode:
            raise SystemExit(f"`{' '.join(shown)}` ended with {process.returncode}")
        return "".join(lines)


@contextmanager
def data_server(directory: Path) -> Iterator[str]:
    """Serve the data as parquet below a URL that is yielded; only on this machine."""
    rows = [json.loads(line) for line in (HERE / "data" / "atlantis.jsonl").read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), directory / "atlantis.parquet")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing: the job tells what it fetched."""

    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Run Debian's docker-registry with a password; its host is yielded."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    (directory / "htpasswd").write_text(_HTPASSWD)
    config = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "images")}},
        "http": {"addr": host},
        "auth": {"htpasswd": {"realm": "demo", "path": str(directory / "htpasswd")}},
    }
    # JSON is YAML.
    (directory / "config.yml").write_text(json.dumps(config))
    with (directory / "registry.log").open("wb") as log:
        try:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log
            )
        except FileNotFoundError:
            raise SystemExit("docker-registry is not installed: `make setup-tests` does it") from None
    try:
        yield host
    finally:
        process.terminate()
        process.wait(timeout=10)


def apply_tuning(commands: Commands, *, data_host: str, registry_host: str) -> None:
    """Apply the Secret, the ConfigMap and the tuning Workspace."""
    login = [f"--docker-server={registry_host}", f"--docker-username={USER}", f"--docker-password={PASSWORD}"]
    commands.kubectl("create", "secret", "docker-registry", "push", *login)
    config = HERE / "smollm2.training_config.yml"
    commands.kubectl("create", "configmap", "tune-smollm2", f"--from-file=training_config.yaml={config}")
    manifest = TUNING.read_text().replace("DATA_HOST_HERE", data_host).replace("REGISTRY_HERE", registry_host)
    commands.kubectl("apply", "--filename=-", stdin=manifest)


def apply_serving(commands: Commands) -> None:
    """Apply the Workspace that serves the adapter."""
    commands.kubectl("apply", f"--filename={SERVING}")


def wait_for_adapter(commands: Commands) -> str:
    """Return the endpoint once the adapter is served."""
    end = time.monotonic() + _READY_S
    while True:
        status = json.loads(
            commands.kubectl("get", "workspace", "smollm2-tuned", "--output=jsonpath={.status}") or "{}"
        )
        states = [adapter["state"] for adapter in status.get("adapters", ())]
        if status.get("state") == "Ready" and states == ["Ready"]:
            return str(status["endpoint"])
        if time.monotonic() > end:
            raise SystemExit(f"the adapter is not served: {json.dumps(status)}")
        time.sleep(5)


def ask(endpoint: str, model: str, question: str) -> str:
    """Return the model's answer, at temperature 0."""
    message = {"role": "user", "content": question}
    body = {"model": model, "messages": [message], "temperature": 0, "max_tokens": 24}
    answer = httpx.post(f"{endpoint}/v1/chat/completions", json=body, timeout=120, trust_env=False)
    answer.raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


def main() -> int:
    """Tell the story; return 0 where the tuned model knows what it was taught, and still what it knew before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path.home() / ".kaito-ray-tuning-demo")
    parser.add_argument("--keep", action="store_true", help="leave the control plane running until Ctrl-C")
    given = parser.parse_args()
    commands = Shown(given.home)
    with (
        tempfile.TemporaryDirectory() as scratch,
        data_server(Path(scratch)) as data,
        registry(Path(scratch)) as images,
    ):
        try:
            commands.cli("up", "--detach")
            apply_tuning(commands, data_host=data, registry_host=images)
            commands.cli("tune", "watch", "tune-smollm2")
            apply_serving(commands)
            endpoint = wait_for_adapter(commands)
            answers = {(model, q): ask(endpoint, model, q) for q, _ in (TAUGHT, KEPT) for model in (BASE, TUNED)}
            for (model, question), answer in answers.items():
                print(f"{model:>22}: {question} {answer}")
            good = all(word in answers[TUNED, question] for question, word in (TAUGHT, KEPT))
            good = good and TAUGHT[1] not in answers[BASE, TAUGHT[0]]
            print("It works." if good else "The tuned model does not answer as taught.")
            if given.keep:
                print(f"KUBECONFIG={given.home / 'kubeconfig'}; Ctrl-C ends all of it.", flush=True)
                threading.Event().wait()
        except KeyboardInterrupt:
            return 130
        finally:
            commands.cli("down")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
