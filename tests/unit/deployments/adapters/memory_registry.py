"""A registry in memory, behind httpx's own mock transport."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests import adapters


@dataclass
class MemoryRegistry:
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    meddle: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
    """Answers in the registry's place where it returns something."""

    def push(self, tag: str, *blobs: bytes) -> str:
        """Store an image of these layers; return its digest."""
        return self.push_layers(tag, [adapters.layer_of(blob) for blob in blobs], *blobs)

    def push_layers(self, tag: str, layers: list[dict], *blobs: bytes) -> str:
        for blob in blobs:
            self.blobs[adapters.digest(blob)] = blob
        return self.push_manifest(tag, adapters.manifest(*layers))

    def push_manifest(self, tag: str, body: bytes) -> str:
        self.manifests[tag] = self.manifests[adapters.digest(body)] = body
        return adapters.digest(body)

    def transport(self) -> httpx.MockTransport:
        # MockTransport's responses are read already, and cannot be streamed; a real transport's are not.
        def unread(request: httpx.Request) -> httpx.Response:
            answer = self._answer(request)
            return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))

        return httpx.MockTransport(unread)

    def paths(self, kind: str) -> list[str]:
        return [request.url.path for request in self.requests if f"/{kind}/" in request.url.path]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if (meddled := self.meddle(request)) is not None:
            return meddled
        kind, version = re.fullmatch(r"/v2/.+/(manifests|blobs)/(.+)", request.url.path).groups()
        stored = (self.manifests if kind == "manifests" else self.blobs).get(version)
        if stored is None:
            return httpx.Response(404)
        headers = {"Content-Type": adapters.OCI_MANIFEST} if kind == "manifests" else {}
        if request.method == "HEAD":
            return httpx.Response(200, headers={**headers, "Docker-Content-Digest": adapters.digest(stored)})
        if span := re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")):
            return httpx.Response(206, content=stored[int(span[1]) :], headers=headers)
        return httpx.Response(200, content=stored, headers=headers)
