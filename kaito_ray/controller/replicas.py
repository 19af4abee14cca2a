"""What a running replica says of itself, over HTTP; the one thing that the API server does not know."""

from __future__ import annotations

import logging
from typing import Final, Protocol, TypeVar

import aiohttp
from pydantic import ConfigDict

from kaito_ray.api import names
from kaito_ray.api.base import ApiModel
from kaito_ray.api.status import AdapterStatus, ReplicaStart, ReplicaStatus

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer", bound=ApiModel)

TIMEOUT: Final = aiohttp.ClientTimeout(total=3)


class Replicas(Protocol):
    """The replicas of Workspaces. `key` is an API key that one accepts, where it asks for one."""

    async def adapters(self, endpoint: str | None, key: bytes | None = None) -> tuple[AdapterStatus, ...] | None:
        """Return how each adapter is, as the replica behind `endpoint` says; None where it does not answer."""

    async def started(self, endpoint: str | None, key: bytes | None = None) -> ReplicaStart | None:
        """Return how the replica behind `endpoint` came up, as it says; None where it does not answer."""

    async def counted(self, dashboard: str, token: str) -> ReplicaStatus | None:
        """Return how many copies of the model there are, as Ray Serve says; None where it does not answer.

        `dashboard` is the `host:port` of Ray's dashboard, `token` Ray's.
        """


class HttpReplicas:
    """The replicas, asked at `/adapters` and `/startup`, and counted by Serve's REST API."""

    async def adapters(self, endpoint: str | None, key: bytes | None = None) -> tuple[AdapterStatus, ...] | None:
        """As `Replicas.adapters`."""
        told = await _ask(endpoint, "/adapters", key, _Told)
        return told.adapters if told else None

    async def started(self, endpoint: str | None, key: bytes | None = None) -> ReplicaStart | None:
        """As `Replicas.started`."""
        return await _ask(endpoint, "/startup", key, ReplicaStart)

    async def counted(self, dashboard: str, token: str) -> ReplicaStatus | None:
        """As `Replicas.counted`."""
        url, headers = f"http://{dashboard}/api/serve/applications/", {"x-ray-authorization": f"Bearer {token}"}
        try:
            async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.get(url, headers=headers) as answer:
                answer.raise_for_status()
                application = (await answer.json())["applications"][names.APPLICATION]
            deployment = application["deployments"][names.DEPLOYMENT]
            running = sum(replica["state"] == "RUNNING" for replica in deployment["replicas"])
            return ReplicaStatus(desired=deployment["target_num_replicas"], ready=running)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, LookupError, TypeError) as error:
            log.info("Ray Serve did not say how many replicas it has", extra={"ray": dashboard, "error": str(error)})
            return None


async def _ask(endpoint: str | None, path: str, key: bytes | None, answer: type[_Answer]) -> _Answer | None:
    if endpoint is None:
        return None
    headers = {"authorization": f"Bearer {key.decode(errors='replace').strip()}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session,
            session.get(f"{endpoint}{path}") as response,
        ):
            response.raise_for_status()
            return answer.from_wire(await response.json())
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        log.info("a replica did not answer", extra={"endpoint": endpoint, "path": path, "error": str(error)})
        return None


class _Told(ApiModel):
    """What the operator wants of the answer of `/adapters`."""

    model_config = ConfigDict(extra="ignore")

    adapters: tuple[AdapterStatus, ...]
    """Each adapter that the replica was told of."""
