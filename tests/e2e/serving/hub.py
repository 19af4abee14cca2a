"""A model hub of one repository, as much of its API as its clients ask for; it can break off in the middle of a file."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPOSITORY = "org/model"
COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Serves `files`; `break_after` bytes of each body, where it is set, and `status` to whoever asks for the model.

    With a `token`, the repository is gated: whoever lacks it is told of the model, and given none of its files.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], repository: str = REPOSITORY) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository = repository
        self.token: str | None = None
        self.with_sizes = True
        """Whether the list of files says how large they are."""
        self.files = files
        self.break_after: int | None = None
        self.status = 200
        self.ranges: list[str] = []
        """`Range` headers that were asked for."""
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub(files: dict[str, bytes], repository: str = REPOSITORY) -> Iterator[Hub]:
    server = Hub(files, repository)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        repository = self.server.repository
        if path.startswith(f"/api/models/{repository}/tree/"):
            self._json([self._file(name) | {"type": "file", "path": name} for name in self.server.files])
        elif path.startswith(f"/api/models/{repository}"):
            self._model()
        elif match := re.fullmatch(f"/{repository}/resolve/[^/]+/(.+)", path):
            self._content(match[1])
        else:
            self._reply(404, b"", {"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _model(self) -> None:
        if self.server.status != 200:
            code = {401: "RepoNotFound", 403: "GatedRepo", 404: "RevisionNotFound"}.get(self.server.status, "")
            self._reply(self.server.status, b"{}", {"X-Error-Code": code})
            return
        said = self._file if self.server.with_sizes else lambda _: {}
        siblings = [said(name) | {"rfilename": name} for name in self.server.files]
        card = {"license": "mit"}
        gated = "manual" if self.server.token else False
        body = {"id": self.server.repository, "sha": COMMIT, "siblings": siblings, "cardData": card, "gated": gated}
        self._json(body)

    def _file(self, name: str) -> dict[str, Any]:
        content = self.server.files[name]
        return {
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
            "blobId": hashlib.sha1(content).hexdigest(),
        }

    def _content(self, name: str) -> None:
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._reply(403 if self.headers.get("Authorization") else 401, b"", {"X-Error-Code": "GatedRepo"})
            return
        if name not in self.server.files:
            self._reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = self.server.files[name]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        start = 0
        if asked := self.headers.get("Range"):
            self.server.ranges.append(asked)
            start = int(re.findall(r"\d+", asked)[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET":
            self.server.fetched.append(name)
        self._reply(206 if asked else 200, content[start:], headers)

    def _json(self, body: Any) -> None:
        self._reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.server.break_after
        if limit is not None and limit < len(body):
            self.wfile.write(body[:limit])
            self.close_connection = True
            return
        self.wfile.write(body)
