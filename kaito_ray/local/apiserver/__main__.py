"""`python -m kaito_ray.local.apiserver --home DIR [--port N]`: the embedded API server as a process."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from kaito_ray.local.apiserver import certificates, kubeconfig
from kaito_ray.local.apiserver.app import Server


def main() -> int:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m kaito_ray.local.apiserver", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="directory with the database and the kubeconfig")
    parser.add_argument(
        "--port", type=int, help="port on 127.0.0.1; by default the one of the last start, or a free one"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    os.umask(0o077)
    home: Path = arguments.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "apiserver.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"an API server runs in {home} already; end it first", file=sys.stderr)
            return 1
        return _run(home, arguments.port)


def _run(home: Path, port: int | None) -> int:
    kept = home / "apiserver.port"
    chosen = port if port is not None else int(kept.read_text()) if kept.exists() else 0
    try:
        listener = _listener(chosen)
    except OSError as error:
        remedy = f"or remove {kept} for another port" if port is None else "or give another --port"
        print(f"cannot listen on 127.0.0.1:{chosen}: {error}; end what uses it, {remedy}", file=sys.stderr)
        return 1
    kept.write_text(str(listener.getsockname()[1]))
    asyncio.run(_serve(home, listener))
    return 0


def _listener(port: int) -> socket.socket:
    """Return a socket bound to the port; 0 is any free one."""
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, every answer takes 40 ms longer.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


class _Uvicorn(uvicorn.Server):
    """Ends watches in an orderly way before it closes connections, so that the process ends at once."""

    def __init__(self, config: uvicorn.Config, served: Server) -> None:
        super().__init__(config)
        self._served = served

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, end watches, and wait for what is still being answered."""
        self._served.store.end_waits()
        await super().shutdown(sockets)


async def _serve(home: Path, listener: socket.socket) -> None:
    files = certificates.ensure(home / "pki")
    config_path = home / "kubeconfig"
    token = kubeconfig.token_of(config_path)
    port = listener.getsockname()[1]
    served = Server(home, token)
    config = uvicorn.Config(
        served.app(),
        ssl_certfile=files.certificate,
        ssl_keyfile=files.key,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
        loop="asyncio",
        ws="none",
    )
    server = _Uvicorn(config, served)
    kubeconfig.write(config_path, port=port, authority=files.authority, token=token)
    logging.getLogger(__name__).info("serving on https://127.0.0.1:%d, process %d", port, os.getpid())
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
