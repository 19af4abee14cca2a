"""The real `Cluster`: plain dicts over `kubernetes.aio`, which brings credentials, TLS and the connection pool.

Its generated classes are not used: our manifests are dicts, and most kinds are custom ones. See docs/adr/0002.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from kaito_ray.errors import ApiRefused, ApiUnavailable, Conflict
from kaito_ray.kube.cluster import Change, Manifest, Resource
from kaito_ray.kube.informer import Expired, Page, follow

REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5)
WATCH_SECONDS: Final = 290
"""How long the server is asked to keep one watch open; the next one starts where it ended."""
WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=WATCH_SECONDS + 30)
PAGE_SIZE: Final = 500
"""Objects asked for at once when listing."""

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_NETWORK_ERRORS: Final = (aiohttp.ClientError, TimeoutError, OSError)


class KubernetesCluster:
    """`Cluster` on an API server, reached with the credentials of a kubeconfig or of the pod it runs in."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        """Connect lazily; without `kubeconfig`, the pod's service account is used."""
        self._kubeconfig = kubeconfig
        self._api: Any = None
        self._connecting = asyncio.Lock()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest | None:
        """See `Cluster.get`."""
        status, body = await self._call("GET", path(resource, namespace, name))
        if status == 404:
            return None
        return _checked(status, body, resource)

    async def list(
        self, resource: Resource, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]:
        """See `Cluster.list`."""
        return (await self._page(resource, namespace, labels)).items

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """See `Cluster.create`."""
        namespace = manifest["metadata"].get("namespace")
        return _checked(*await self._call("POST", path(resource, namespace), body=manifest), resource)

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
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        status, body = await self._call("DELETE", path(resource, namespace, name), body=options)
        if status not in (404, 409):  # 409: that name belongs to another object by now, so ours is gone
            _checked(status, body, resource)

    async def watch(self, resource: Resource, namespace: str | None = None) -> AsyncGenerator[Change, None]:
        """See `Cluster.watch`."""

        async def page() -> Page:
            return await self._page(resource, namespace, None)

        def stream(version: str) -> AsyncGenerator[Manifest, None]:
            return self._stream(resource, namespace, version)

        async with aclosing(follow(page, stream, what=resource.plural)) as changes:
            async for change in changes:
                yield change

    async def knows(self, resource: Resource) -> bool:
        """Return whether the API server serves that kind: whether its CRD is installed."""
        status, body = await self._call("GET", path(resource).rpartition("/")[0])
        if status == 404:
            return False
        return any(found["name"] == resource.plural for found in _checked(status, body, resource)["resources"])

    async def close(self) -> None:
        """See `Cluster.close`."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    async def _page(self, resource: Resource, namespace: str | None, labels: Mapping[str, str] | None) -> Page:
        items: list[Manifest] = []
        query = {"limit": str(PAGE_SIZE)}
        if labels:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        while True:
            status, body = await self._call("GET", path(resource, namespace), query)
            if status == 404:
                return Page([], None)
            if status == 410 and "continue" in query:  # the list changed too much under us: start again
                items = []
                del query["continue"]
                continue
            listed = _checked(status, body, resource)
            # A list names apiVersion and kind once, for all its items.
            items += [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in listed["items"]]
            if not (token := listed["metadata"].get("continue")):
                return Page(items, listed["metadata"]["resourceVersion"])
            query["continue"] = token

    async def _put(self, resource: Resource, manifest: Manifest, subresource: str) -> Manifest:
        meta = manifest["metadata"]
        where = path(resource, meta.get("namespace"), meta["name"]) + subresource
        status, body = await self._call("PUT", where, body=manifest)
        if status == 404:
            raise Conflict(f"{resource.kind} {meta['name']} went away while it was being written")
        return _checked(status, body, resource)

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
                    _checked(response.status, _parsed(await response.read()), resource)
                async for line in response.content:
                    yield json.loads(line)
            finally:
                response.close()

    async def _call(
        self, method: str, where: str, query: Mapping[str, str] | None = None, *, body: Manifest | None = None
    ) -> tuple[int, Any]:
        with _network_errors():
            response = await self._send(method, where, query or {}, body, REQUEST_TIMEOUT)
            content = await response.read()
        await self._forget_credentials_if_refused(response.status)
        return response.status, _parsed(content)

    async def _send(
        self, method: str, where: str, query: Mapping[str, str], body: Manifest | None, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        api = await self._connected()
        method, url, headers, _, _ = await api.param_serialize(
            method, where, query_params=list(query.items()), auth_settings=["BearerToken"]
        )
        sent = await api.call_api(method, url, {**headers, "Accept": "application/json"}, body, _request_timeout=limits)
        response: aiohttp.ClientResponse = sent.response
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


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return {"message": content.decode(errors="replace")[:500]}


def _checked(status: int, body: Any, resource: Resource) -> Manifest:
    """Return `body` of a 2xx answer; raise what the protocol promises for any other."""
    if 200 <= status < 300:
        answer: Manifest = body
        return answer
    message = body.get("message", "") if isinstance(body, dict) else ""
    words = f"{resource.plural}: {message or 'the API server gave no reason'} (HTTP {status})"
    if status == 409:
        raise Conflict(words)
    if status in (401, 410, 429) or status >= 500:
        raise ApiUnavailable(words)
    if status == 404 and not (body.get("details") or {}).get("name"):
        kind = ".".join(filter(None, (resource.plural, resource.group)))
        words = f"{kind} is not known to the API server; is its CRD installed?"
    raise ApiRefused(words)
