"""Ray's own REST API, as far as KubeRay uses it: Serve applications and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import httpx

from kaito_ray.errors import TransientError, UserError

_APPLICATIONS = "/api/serve/applications/"
_TIMEOUT_S = 10.0


class RayUnavailable(TransientError):
    """The dashboard answered 5xx, or not at all."""

    reason = "RayUnavailable"


class RayRefused(UserError):
    """Ray refused a configuration or a job; the message holds Ray's own words."""

    reason = "RayRefused"


class Ray(Protocol):
    """One Ray cluster, seen from KubeRay.

    Every method raises `RayUnavailable` for 5xx, time-outs and lost connections, and `RayRefused` for other refusals.
    """

    async def applications(self) -> dict[str, Any]:
        """Return Serve's details: `{"applications": {name: {...}}}`."""

    async def apply(self, config: Mapping[str, Any]) -> None:
        """Make Serve's declared applications be those of `config`."""

    async def submit(self, job: Mapping[str, Any]) -> None:
        """Submit a job."""

    async def job(self, submission_id: str) -> dict[str, Any] | None:
        """Return the job's info, or None where Ray has none of that id."""

    async def job_logs(self, submission_id: str) -> str:
        """Return all that the job's driver has printed so far."""

    async def stop_job(self, submission_id: str) -> None:
        """Ask a job to stop; no error where there is none."""


class RayRest:
    """`Ray` over HTTP."""

    def __init__(self, client: httpx.AsyncClient, port: int, token: str) -> None:
        self._client = client
        self._base = f"http://127.0.0.1:{port}"
        self._headers = {"x-ray-authorization": f"Bearer {token}"}

    async def applications(self) -> dict[str, Any]:
        """As `Ray.applications`."""
        return dict((await self._call("GET", _APPLICATIONS, params={"api_type": "declarative"})).json())

    async def apply(self, config: Mapping[str, Any]) -> None:
        """As `Ray.apply`."""
        # Importing the application's module is part of the answer, and on a cold disk that takes long.
        await self._call("PUT", _APPLICATIONS, json=dict(config), timeout=120.0)

    async def submit(self, job: Mapping[str, Any]) -> None:
        """As `Ray.submit`."""
        await self._call("POST", "/api/jobs/", json=dict(job), timeout=60.0)

    async def job(self, submission_id: str) -> dict[str, Any] | None:
        """As `Ray.job`."""
        response = await self._call("GET", f"/api/jobs/{submission_id}", accept=(404,))
        return None if response.status_code == 404 else dict(response.json())

    async def job_logs(self, submission_id: str) -> str:
        """As `Ray.job_logs`."""
        return str((await self._call("GET", f"/api/jobs/{submission_id}/logs")).json().get("logs") or "")

    async def stop_job(self, submission_id: str) -> None:
        """As `Ray.stop_job`."""
        await self._call("POST", f"/api/jobs/{submission_id}/stop", accept=(404,))

    async def _call(self, method: str, path: str, *, accept: tuple[int, ...] = (), **options: Any) -> httpx.Response:
        options.setdefault("timeout", _TIMEOUT_S)
        try:
            response = await self._client.request(method, self._base + path, headers=self._headers, **options)
        except httpx.TransportError as error:
            raise RayUnavailable(f"Ray's dashboard at {self._base} does not answer: {error!r}") from error
        if response.is_success or response.status_code in accept:
            return response
        words = f"{method} {path} answered {response.status_code}: {response.text[:2000]}"
        raise (RayUnavailable if response.status_code >= 500 else RayRefused)(words)
