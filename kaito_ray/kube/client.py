"""The real `Cluster`: plain dicts over `kubernetes.aio`, which brings credentials, TLS and the connection pool.

Its generated classes are not used: our manifests are dicts, and most kinds are custom ones. See docs/adr/0002.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import aiohttp

from kaito_ray.errors import ApiRefused, ApiUnavailable, Conflict, WebhookDenied, WebhookUnavailable
from kaito_ray.kube.cluster import Change, Manifest, Resource
from kaito_ray.kube.informer import Expired, Page, follow
from kaito_ray.kube.metrics import REQUESTS
from kaito_ray.kube.official import ApiClient, Configuration
from kaito_ray.kube.official import config as kube_config

REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5)
WATCH_SECONDS: Final = 290
"""How long the server is asked to keep one watch open; the next one starts where it ended."""
WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=WATCH_SECONDS + 30)
PAGE_SIZE: Final = 500
"""Objects asked for at once when listing."""

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_DENIED: Final = re.compile(r'admission webhook "(.*?)" denied the request: ?(.*)', re.DOTALL)
_SILENT: Final = re.compile(r'failed calling webhook "(.*?)"')
_UNKNOWN: Final = re.compile(r'unknown field "(.*?)"')
_NETWORK_ERRORS: Final = (aiohttp.ClientError, TimeoutError, OSError)
_READ_AGAIN_AFTER_S: Final = (0.1, 0.5)
"""A read that failed is repeated: a pass of the operator is a dozen of them, so where one in five fails, hardly any pass
would come to its end. A write is not: whether it took effect is for the next pass to see."""
_LONGEST_WAIT_S: Final = 60.0
"""How long an API server is left alone at most, whatever it asks for with `Retry-After`."""
_LONGEST_LINE_BYTES: Final = 16 * 2**20
"""An object has at most 1.5 MiB in etcd; as JSON, with its managedFields, it may be a few times that."""


class KubernetesCluster:
    """`Cluster` on an API server, reached with the credentials of a kubeconfig or of the pod it runs in."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        """Connect lazily; without `kubeconfig`, the pod's service account is used."""
        self._kubeconfig = kubeconfig
        self._api: Any = None
        self._connecting = asyncio.Lock()
        self._closed_until = 0.0

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest | None:
        """See `Cluster.get`."""
        REQUESTS.labels("get", resource.kind).inc()
        answer = await self._call("GET", path(resource, namespace, name))
        return None if answer.status == 404 else _checked(answer, resource)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        """See `Cluster.list`."""
        REQUESTS.labels("list", resource.kind).inc()
        return (await self._page(resource, namespace, labels, fields)).items

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """See `Cluster.create`."""
        REQUESTS.labels("create", resource.kind).inc()
        namespace = manifest["metadata"].get("namespace")
        return _checked(await self._call("POST", path(resource, namespace), _strict(resource), body=manifest), resource)

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        """See `Cluster.replace`."""
        return await self._put(resource, manifest, "")

    async def replace_status(self, resource: Resource, manifest: Manifest) -> Manifest:
        """See `Cluster.replace_status`."""
        return await self._put(resource, manifest, "/status")

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        """See `Cluster.delete`."""
        REQUESTS.labels("delete", resource.kind).inc()
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        answer = await self._call("DELETE", path(resource, namespace, name), body=options)
        if answer.status not in (404, 409):  # 409: that name belongs to another object by now, so ours is gone
            _checked(answer, resource)

    async def watch(self, resource: Resource, namespace: str | None = None) -> AsyncGenerator[Change, None]:
        """See `Cluster.watch`."""

        async def page() -> Page:
            return await self._page(resource, namespace)

        def stream(version: str) -> AsyncGenerator[Manifest, None]:
            return self._stream(resource, namespace, version)

        async with aclosing(follow(page, stream, what=resource.plural)) as changes:
            async for change in changes:
                yield change

    async def knows(self, resource: Resource) -> bool:
        """Return whether the API server serves that kind: whether its CRD is installed."""
        answer = await self._call("GET", path(resource).rpartition("/")[0])
        if answer.status == 404:
            return False
        return any(found["name"] == resource.plural for found in _checked(answer, resource)["resources"])

    async def close(self) -> None:
        """See `Cluster.close`."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    async def _page(
        self,
        resource: Resource,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Page:
        items: list[Manifest] = []
        query = {"limit": str(PAGE_SIZE)}
        for selector, wanted in (("labelSelector", labels), ("fieldSelector", fields)):
            if wanted:
                query[selector] = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        while True:
            answer = await self._call("GET", path(resource, namespace), query)
            if answer.status == 404:
                return Page([], None)
            if answer.status == 410 and "continue" in query:  # the list changed too much under us: start again
                items = []
                del query["continue"]
                continue
            listed = _checked(answer, resource)
            # A list names apiVersion and kind once, for all its items.
            items += [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in listed["items"]]
            if not (token := listed["metadata"].get("continue")):
                return Page(items, listed["metadata"]["resourceVersion"])
            query["continue"] = token

    async def _put(self, resource: Resource, manifest: Manifest, subresource: str) -> Manifest:
        REQUESTS.labels("replace_status" if subresource else "replace", resource.kind).inc()
        meta = manifest["metadata"]
        where = path(resource, meta.get("namespace"), meta["name"]) + subresource
        answer = await self._call("PUT", where, _strict(resource), body=manifest)
        if answer.status == 404:
            raise Conflict(f"{resource.kind} {meta['name']} went away while it was being written")
        return _checked(answer, resource)

    async def _stream(self, resource: Resource, namespace: str | None, version: str) -> AsyncGenerator[Manifest, None]:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        with _network_errors():
            response = await self._send("GET", path(resource, namespace), query, None, WATCH_TIMEOUT)
            try:
                if response.status == 410:
                    raise Expired
                if response.status != 200:
                    await self._forget_credentials_if_refused(response.status)
                    _checked(_Answer.of(response, await response.read()), resource)
                # A line is as long as the object in it, and aiohttp's own lines are shorter than a Secret may be.
                while line := await response.content.readuntil(b"\n", max_size=_LONGEST_LINE_BYTES):
                    yield _event(line, resource)
            finally:
                response.close()

    async def _call(
        self, method: str, where: str, query: Mapping[str, str] | None = None, *, body: Manifest | None = None
    ) -> _Answer:
        for pause_s in _READ_AGAIN_AFTER_S if method == "GET" else ():
            with suppress(aiohttp.ClientConnectionError):
                answer = await self._ask(method, where, query, body)
                if answer.status != 429 and answer.status < 500:
                    return answer
            await asyncio.sleep(pause_s)
        with _network_errors():
            return await self._ask(method, where, query, body)

    async def _ask(self, method: str, where: str, query: Mapping[str, str] | None, body: Manifest | None) -> _Answer:
        response = await self._send(method, where, query or {}, body, REQUEST_TIMEOUT)
        content = await response.read()
        await self._forget_credentials_if_refused(response.status)
        return _Answer.of(response, content)

    async def _send(
        self, method: str, where: str, query: Mapping[str, str], body: Manifest | None, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        api = await self._connected()
        await asyncio.sleep(self._closed_until - monotonic())
        method, url, headers, _, _ = await api.param_serialize(
            method, where, query_params=list(query.items()), auth_settings=["BearerToken"]
        )
        sent = await api.call_api(method, url, {**headers, "Accept": "application/json"}, body, _request_timeout=limits)
        response: aiohttp.ClientResponse = sent.response
        asked = response.headers.get("Retry-After", "") if response.status in (429, 503) else ""
        if asked.isdigit():
            # Whoever asks next waits: news wakes us at any time, and an overloaded server must not be asked the sooner.
            self._closed_until = monotonic() + min(float(asked), _LONGEST_WAIT_S)
        return response

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._api is None:
                self._api = ApiClient(await credentials(self._kubeconfig))
            return self._api

    async def _forget_credentials_if_refused(self, status: int) -> None:
        """After 401 the next call reads the credentials anew: tokens expire, and kubeconfigs are rewritten."""
        if status == 401:
            await self.close()


def path(resource: Resource, namespace: str | None = None, name: str | None = None) -> str:
    """Return the REST path of an object, or of the collection where no name is given."""
    parts = ["apis", resource.group] if resource.group else ["api"]
    parts.append(resource.version)
    if resource.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    if name:
        parts.append(name)
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _strict(resource: Resource) -> dict[str, str]:
    return {"fieldValidation": "Strict"} if resource.strict else {}


async def credentials(kubeconfig: Path | None) -> Any:
    """Return `kubernetes.aio`'s Configuration: address, certificates and token of the API server.

    Raises:
        ApiUnavailable: they cannot be read (yet).
    """
    settings = Configuration()
    try:
        if kubeconfig is None:
            kube_config.load_incluster_config(client_configuration=settings)
        else:
            await kube_config.load_kube_config(str(kubeconfig), client_configuration=settings, persist_config=False)
    except (kube_config.ConfigException, OSError) as error:
        source = f"the kubeconfig {kubeconfig}" if kubeconfig else "the pod's service account"
        raise ApiUnavailable(f"cannot read the API server's address and credentials from {source}: {error}") from error
    if urlsplit(settings.host).hostname in _LOOPBACK:
        # As Go's client does: a proxy of the environment is never asked for loopback.
        settings.client_session_kwargs = {"trust_env": False}
    return settings


@contextmanager
def _network_errors() -> Iterator[None]:
    try:
        yield
    except _NETWORK_ERRORS as error:
        raise ApiUnavailable(f"the API server did not answer: {error or type(error).__name__}") from error


@dataclass(frozen=True)
class _Answer:
    """What the API server answered; `body` is None where it is no JSON object."""

    status: int
    body: Manifest | None
    text: str = ""

    @classmethod
    def of(cls, response: aiohttp.ClientResponse, content: bytes) -> _Answer:
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        return cls(
            status=response.status,
            body=body if isinstance(body, dict) else None,
            text=content[:500].decode(errors="replace"),
        )


def _event(line: bytes, resource: Resource) -> Manifest:
    """Return a watch event; a line that was cut off is a lost connection like any other."""
    try:
        event: Manifest = json.loads(line)
    except ValueError as error:
        raise ApiUnavailable(f"watch of {resource.plural} ended in the middle of an event") from error
    return event


def _checked(answer: _Answer, resource: Resource) -> Manifest:
    """Return the body of a 2xx answer; raise what the protocol promises for any other."""
    status, body = answer.status, answer.body
    if 200 <= status < 300 and body is not None:
        return body
    message = (body or {}).get("message") or answer.text
    words = f"{resource.plural}: {message or 'the API server gave no reason'} (HTTP {status})"
    if status == 409:
        raise Conflict(words)
    if denied := _DENIED.search(message):
        raise WebhookDenied(f"the webhook {denied[1]} refuses the {resource.kind}: {denied[2]}")
    if silent := _SILENT.search(message):
        raise WebhookUnavailable(f"the webhook {silent[1]} does not answer, so no {resource.kind} can be written")
    if resource.strict and (unknown := _UNKNOWN.findall(message)):
        raise ApiRefused(f"a {resource.kind} has no field {', '.join(unknown)}; correct or remove it")
    if status in (401, 410, 429) or status >= 500 or status < 400:
        raise ApiUnavailable(words)
    if status == 404 and not ((body or {}).get("details") or {}).get("name"):
        kind = ".".join(filter(None, (resource.plural, resource.group)))
        words = f"{kind} is not known to the API server; is its CRD installed?"
    raise ApiRefused(words)
