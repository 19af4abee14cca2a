"""An embedded API server for a test: its own home, its own port, ended by its process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class ApiServer:
    """A server process. `kubeconfig` is valid while it runs, and again after a restart."""

    home: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    @property
    def log(self) -> Path:
        return self.home / "apiserver.log"

    def start(self, wait_s: float = 20.0) -> None:
        """Start the process and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kaito_ray.local.apiserver", "--home", str(self.home)],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + wait_s
        while not (self.kubeconfig.exists() and self.answers()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the API server did not come up: {self.log.read_text()}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Say whether /readyz answers."""
        import http.client
        import ssl

        port = int((self.home / "apiserver.port").read_text())
        context = ssl.create_default_context(cafile=str(self.home / "pki" / "ca.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End the process in an orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            os.kill(self.process.pid, how)
        self.process.wait(timeout=10)
        self.process = None


@contextmanager
def running(home: Path) -> Iterator[ApiServer]:
    """Run a server for the length of a `with` block."""
    server = ApiServer(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()
