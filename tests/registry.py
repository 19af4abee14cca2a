"""A real registry for tests: Debian's docker-registry as a plain process on a free loopback port."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from tests import adapters

USER, PASSWORD = "tester", "correct-horse"
_HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuuPoaPXzWjiVz4HaNq2LJXksWbO79E.S6\n"
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class RunningRegistry:
    """Where it listens, and who may use it."""

    host: str
    credentials: tuple[str, str] | None

    def image(self, name: str) -> str:
        return f"{self.host}/{name}"

    def docker_config(self) -> str:
        """Return a docker config JSON that opens this registry."""
        user, password = self.credentials or ("", "")
        return json.dumps({"auths": {self.host: {"username": user, "password": password}}})

    def push_adapter(self, folder: Path, name: str) -> str:
        """Push the adapter in `folder` in KAITO's layout, by another tool than ours; return the image's reference."""
        files = ("adapter_config.json", "adapter_model.safetensors")
        blob = adapters.gzipped(adapters.tar({f"data/{file}": (folder / file).read_bytes() for file in files}))
        layout = oci_layout(folder.with_name(f"{folder.name}-layout"), [adapters.layer_of(blob)], blob)
        self.push_with_skopeo(layout, name)
        return self.image(name)

    def push_with_skopeo(self, layout: Path, name: str) -> None:
        """Copy the image in the OCI layout `layout` to the registry."""
        credentials = [f"--dest-creds={':'.join(self.credentials)}"] if self.credentials else []
        command = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", *credentials]
        done = subprocess.run(
            [*command, f"oci:{layout}", f"docker://{self.image(name)}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def running_registry(root: Path, *, with_password: bool = False) -> Iterator[RunningRegistry]:
    """Run a registry that keeps its data below `root` until the block ends."""
    root.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{_free_port()}"
    config = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(root / "data")}},
        "http": {"addr": host},
    }
    if with_password:
        (root / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(root / "htpasswd")}}
    (root / "config.yml").write_text(yaml.safe_dump(config))
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(root / "config.yml")], stdout=log, stderr=log)
    try:
        _wait_for(host, process, root / "log")
        yield RunningRegistry(host, (USER, PASSWORD) if with_password else None)
    finally:
        process.terminate()
        process.wait(timeout=10)


def oci_layout(folder: Path, layers: list[Mapping[str, object]], *blobs: bytes) -> Path:
    """Write an image of these layers as an OCI layout, for any tool to push."""
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "config": {}}
    ).encode()
    body = json.loads(adapters.manifest(*layers))
    body["config"] |= {"digest": adapters.digest(config), "size": len(config)}
    manifest = json.dumps(body).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [{"mediaType": adapters.OCI_MANIFEST, "digest": adapters.digest(manifest), "size": len(manifest)}],
    }
    for blob in (*blobs, config, manifest):
        algorithm, _, name = adapters.digest(blob).partition(":")
        adapters.write(folder, {f"blobs/{algorithm}/{name}": blob})
    layout = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()}
    return adapters.write(folder, layout)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            httpx.get(f"http://{host}/v2/", trust_env=False)
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)
        else:
            return
