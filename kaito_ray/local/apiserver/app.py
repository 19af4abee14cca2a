"""The HTTP surface: a path becomes a Call, a Call an answer, and every refusal a Status."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kaito_ray.local.apiserver import discovery, logs, openapi, selectors, status, table, watching
from kaito_ray.local.apiserver.call import BODY_LIMIT_BYTES, Call, Manifest, decoded
from kaito_ray.local.apiserver.crds import Schemas
from kaito_ray.local.apiserver.garbage import Collector
from kaito_ray.local.apiserver.reading import Reader
from kaito_ray.local.apiserver.resources import CRD, POD, Registry
from kaito_ray.local.apiserver.store import Store
from kaito_ray.local.apiserver.writing import Writer

_log = logging.getLogger(__name__)

_OPEN: Final = frozenset(("/livez", "/readyz", "/healthz", "/version"))
"""Paths that answer without a token."""
_UNSERVED: Final[Mapping[str, str]] = {
    "exec": "run the command on this machine: Ray's processes are ordinary processes here (`kaito-ray status` lists them)",
    "attach": "follow the log instead: `kubectl logs -f`",
    "portforward": "connect to 127.0.0.1 directly: every port listens on this machine (`kaito-ray endpoint` prints it)",
    "proxy": "connect to 127.0.0.1 directly: every port listens on this machine (`kaito-ray endpoint` prints it)",
    "ephemeralcontainers": "there are no containers here: use the tools of this machine",
    "eviction": "delete the Pod: `kubectl delete pod`",
    "binding": "there is one machine, and what runs is bound to it already",
    "token": "use the token of the generated kubeconfig",
    "scale": "edit the object's own field",
}
_TABLE: Final = "as=Table"
_METADATA_ONLY: Final = "as=PartialObjectMetadata"


class Server:
    """Everything that one API server holds."""

    def __init__(self, home: Path, token: str) -> None:
        self.home = home
        self._token = token
        self.store = Store(home / "apiserver.db", selectors.projection)
        self.registry = Registry()
        self.schemas = Schemas(self.store)
        self.reader = Reader(self.store)
        self.writer = Writer(self.store, self.registry, self.schemas)
        self.collector = Collector(self.store, self.registry, self.writer)

    def app(self) -> Starlette:
        """Return the ASGI application."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self.writer.prepare()
            collecting = asyncio.create_task(self.collector.run())
            try:
                yield
            finally:
                collecting.cancel()
                self.store.close()

        methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self._serve, methods=methods)], lifespan=lifespan)

    async def _serve(self, request: Request) -> Response:
        try:
            if request.url.path not in _OPEN:
                self._authenticate(request)
            return await self._route(request)
        except status.ApiError as error:
            return _refusal(error)
        except status.NoSuchPath:
            return Response("404 page not found\n", 404, media_type="text/plain")
        except ClientDisconnect:
            return Response(status_code=499)
        except RecursionError:
            return _refusal(status.bad_request("the object provided is nested too deeply"))
        except sqlite3.OperationalError as error:
            _log.exception("the database cannot be written")
            return _refusal(status.internal(f"{self.home / 'apiserver.db'} cannot be read or written: {error}"))
        except Exception:
            # The client must get a Status whatever breaks here; the trace goes to the log.
            _log.exception("request failed", extra={"path": request.url.path})
            return _refusal(status.internal("unexpected error: see apiserver.log"))

    def _authenticate(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token.encode()):
            raise status.unauthorized()

    async def _route(self, request: Request) -> Response:
        parts = [part for part in request.url.path.split("/") if part]
        match parts:
            case ["livez" | "readyz" | "healthz", *_]:
                return Response("ok", media_type="text/plain")
            case ["version"]:
                return JSONResponse(discovery.version_info())
            case ["openapi", "v3", *path]:
                return self._openapi("/".join(path))
            case ["api" | "apis", *_] if len(parts) <= 3 and not (parts[0] == "api" and len(parts) == 3):
                return self._discovery(request, parts)
            case ["api", version, *rest]:
                return await self._objects(request, "", version, rest)
            case ["apis", group, version, *rest]:
                return await self._objects(request, group, version, rest)
            case []:
                return JSONResponse(
                    {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}
                )
        raise status.NoSuchPath

    def _openapi(self, path: str) -> Response:
        revision = max((entry for entry in self._crd_versions()), default=0)
        body = openapi.document(self.registry, self.store, path) if path else openapi.index(self.registry, revision)
        if body is None:
            raise status.NoSuchPath
        return _json(body)

    def _crd_versions(self) -> Iterable[int]:
        return (int(crd["metadata"]["resourceVersion"]) for crd in self.store.scan(CRD.key))

    def _discovery(self, request: Request, parts: list[str]) -> Response:
        wants = request.headers.get("accept", "")
        body: Mapping[str, Any] | None
        match parts:
            case [root] if discovery.AGGREGATED in wants.replace(" ", ""):
                body = discovery.aggregated(self.registry, core=root == "api")
                return _json(body, media_type=discovery.AGGREGATED)
            case ["api"]:
                body = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
            case ["apis"]:
                body = discovery.group_list(self.registry)
            case ["api", version]:
                body = discovery.resource_list(self.registry, "", version)
            case ["apis", group]:
                known = discovery.versions(self.registry).get(group)
                body = discovery.group(group, known) if known else None
            case _:
                body = discovery.resource_list(self.registry, parts[1], parts[2])
        if body is None:
            raise status.NoSuchPath
        return _json(body)

    async def _objects(self, request: Request, group: str, version: str, rest: list[str]) -> Response:
        if group == "authorization.k8s.io" and rest and rest[0] in discovery.REVIEWS:
            return await _review(request, rest[0])
        call = self._call(request, group, version, rest)
        if call.kind.deprecation:
            call.warnings.append(call.kind.deprecation)
        if call.subresource:
            self._check_subresource(request, call)
        if request.method in ("POST", "PUT", "PATCH", "DELETE"):
            call.body = await _body(request)
        return await self._verb(request, call)

    def _call(self, request: Request, group: str, version: str, rest: list[str]) -> Call:
        namespace: str | None = None
        if len(rest) >= 3 and rest[0] == "namespaces" and not (len(rest) == 3 and rest[2] in ("status", "finalize")):
            namespace, rest = rest[1], rest[2:]
        kind = self.registry.find(group, version, rest[0])
        if kind is None or (namespace is not None and not kind.namespaced) or len(rest) > 3:
            raise status.NoSuchPath
        name, subresource = (*rest[1:], "", "")[:2]
        if name and kind.namespaced and namespace is None:
            raise status.NoSuchPath
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Call(kind, namespace, name, subresource, dict(request.query_params), b"", content_type)

    def _check_subresource(self, request: Request, call: Call) -> None:
        if call.subresource in call.kind.subresources:
            if request.method in ("POST", "DELETE"):
                raise status.method_not_allowed()
            return
        if call.kind.key == POD.key and call.subresource == "log":
            return
        if call.subresource in _UNSERVED and not call.kind.custom:
            words = f"{call.subresource} is not served by this embedded API server: {_UNSERVED[call.subresource]}"
            raise status.not_implemented(words)
        raise status.NoSuchPath

    async def _verb(self, request: Request, call: Call) -> Response:
        match request.method, bool(call.name):
            case (("GET" | "HEAD"), named):
                if call.subresource == "log":
                    return await self._logs(call)
                if call.flag("watch"):
                    return self._watch(request, call)
                return self._one(request, call, self.reader.get(call)) if named else self._many(request, call)
            case "POST", False:
                if call.kind.namespaced and call.namespace is None:
                    raise status.method_not_allowed()
                return self._one(request, call, await self.writer.create(call), code=201)
            case "PUT", True:
                return self._one(request, call, await self.writer.update(call))
            case "PATCH", True:
                return self._one(request, call, await self.writer.patch(call))
            case "DELETE", True:
                return self._one(request, call, await self.writer.delete(call))
            case "DELETE", False:
                return await self._delete_collection(call)
        raise status.method_not_allowed()

    def _one(self, request: Request, call: Call, manifest: Manifest, code: int = 200) -> Response:
        headers = _warning_headers(call.warnings)
        if manifest.get("kind") == "Status":
            return _json(manifest, code, headers=headers)
        accept = request.headers.get("accept", "")
        if _TABLE in accept:
            version = manifest["metadata"].get("resourceVersion", "")
            body = self._table(call, [manifest], request.query_params.get("includeObject", "Metadata"), version)
            return _json(body, code, headers=headers)
        if _METADATA_ONLY in accept:
            manifest = _partial(manifest)
        return _json(manifest, code, headers=headers)

    def _many(self, request: Request, call: Call) -> Response:
        page = self.reader.list(call)
        accept = request.headers.get("accept", "")
        meta: Manifest = {"resourceVersion": page.version}
        if page.token:
            meta["continue"] = page.token
        if page.remaining is not None:
            meta["remainingItemCount"] = page.remaining
        headers = _warning_headers(call.warnings)
        if _TABLE in accept:
            body = self._table(call, page.items, request.query_params.get("includeObject", "Metadata"), page.version)
            return _json({**body, "metadata": meta}, headers=headers)
        kind, api_version, items = f"{call.kind.kind}List", call.kind.api_version, page.items
        if _METADATA_ONLY in accept:
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            items = [_partial(item) for item in items]
        elif not call.kind.custom:
            # The items of a built-in list carry no kind of their own, on a real cluster.
            items = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
        return _json({"kind": kind, "apiVersion": api_version, "metadata": meta, "items": items}, headers=headers)

    def _table(self, call: Call, objects: list[Manifest], include: str, version: str) -> Manifest:
        columns = self.schemas.printer_columns(call.kind)
        return table.render(call.kind, columns, objects, include=include, version=version)

    def _watch(self, request: Request, call: Call) -> Response:
        events = watching.start(self.store, self.reader, call)
        accept = request.headers.get("accept", "")
        shape = self._shape(request, call, accept)

        async def lines() -> AsyncIterator[bytes]:
            async for event in events:
                if event["type"] not in ("ERROR", "BOOKMARK") or (_TABLE in accept and event["type"] == "BOOKMARK"):
                    event = {**event, "object": shape(event["object"])}  # noqa: PLW2901 - the event in its asked shape
                yield _encoded(event) + b"\n"

        response = StreamingResponse(lines(), media_type="application/json")
        for name, value in _warning_headers(call.warnings):
            response.headers.append(name, value)
        return response

    def _shape(self, request: Request, call: Call, accept: str) -> Callable[[Manifest], Manifest]:
        if _TABLE in accept:
            include = request.query_params.get("includeObject", "Metadata")
            first = True

            def as_table(manifest: Manifest) -> Manifest:
                nonlocal first
                bookmark = "uid" not in manifest["metadata"]
                version = manifest["metadata"].get("resourceVersion", "")
                body = self._table(call, [] if bookmark else [manifest], include, version)
                if not first:
                    body["columnDefinitions"] = None
                first = False
                return body

            return as_table
        return _partial if _METADATA_ONLY in accept else lambda manifest: manifest

    async def _delete_collection(self, call: Call) -> Response:
        if call.kind.namespaced and call.namespace is None:
            raise status.method_not_allowed()
        items = []
        for manifest in self.reader.list(call).items:
            meta = manifest["metadata"]
            one = Call(
                call.kind, call.namespace, meta["name"], query=call.query, body=call.body, warnings=call.warnings
            )
            try:
                await self.writer.delete(one)
            except status.ApiError as error:
                if error.code != 404:
                    raise
            items.append(manifest)
        meta = {"resourceVersion": str(self.store.version())}
        body = {"kind": f"{call.kind.kind}List", "apiVersion": call.kind.api_version, "metadata": meta, "items": items}
        return _json(body, headers=_warning_headers(call.warnings))

    async def _logs(self, call: Call) -> Response:
        pod = self.reader.get(call)
        container = logs.container_of(pod, call.query.get("container", ""))
        if call.flag("previous"):
            words = f'previous terminated container "{container}" in pod "{call.name}" not found'
            raise status.bad_request(f"{words}: all its runs write to one log here; leave --previous out")
        path = logs.path_of(self.home, call.namespace or "", call.name, container)
        if not path.exists() and not call.flag("follow"):
            raise status.bad_request(
                f'container "{container}" in pod "{call.name}" is waiting to start: it has written nothing yet'
            )
        return StreamingResponse(logs.lines(path, call.query), media_type="text/plain")


async def _body(request: Request) -> bytes:
    """Read the body, but never more than the limit."""
    words = f"limit is {BODY_LIMIT_BYTES}"
    if int(request.headers.get("content-length") or 0) > BODY_LIMIT_BYTES:
        raise status.too_large(words)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            raise status.too_large(words)
    return bytes(body)


async def _review(request: Request, plural: str) -> Response:
    """Answer a question about permissions: whoever has the token may do everything."""
    if request.method != "POST":
        raise status.method_not_allowed()
    asked = decoded(await _body(request), request.headers.get("content-type", "").partition(";")[0].strip().lower())
    if plural == "selfsubjectaccessreviews":
        return _json({**asked, "status": {"allowed": True}}, 201)
    rules = {
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": False,
    }
    return _json({**asked, "status": rules}, 201)


def _partial(manifest: Manifest) -> Manifest:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": manifest["metadata"]}


def _refusal(error: status.ApiError) -> Response:
    headers = _warning_headers(error.warnings)
    if retry := error.body.get("details", {}).get("retryAfterSeconds"):
        headers.append(("retry-after", str(retry)))
    return _json(error.body, error.code, headers=headers)


def _warning_headers(warnings: list[str]) -> list[tuple[str, str]]:
    quoted = (json.dumps(text.replace("\n", " "), ensure_ascii=False) for text in dict.fromkeys(warnings))
    return [("warning", f"299 - {text}") for text in quoted]


def _encoded(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _json(
    body: Any, code: int = 200, *, headers: list[tuple[str, str]] | None = None, media_type: str = "application/json"
) -> Response:
    response = Response(_encoded(body), code, media_type=media_type)
    for name, value in headers or ():
        response.headers.append(name, value)
    return response
