"""Training data by http(s): several files, resumed, bounded in size, and never from inside the cluster.

A Workspace's author must not reach, through the job, what only the cluster can: the cloud's metadata service, other
pods, the node itself. So each name is resolved here, every address is checked, and the connection goes to the very
address that was checked; redirects are followed by hand, each checked in the same way. `allow` lifts this for named
hosts or networks, for a laptop and for data that is served inside.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx

from kaito_ray.errors import InvalidWorkspace, TransientError

logger = logging.getLogger(__name__)

FIELD: Final = "tuning.input.urls"
LIMIT_BYTES: Final = 64 * 2**30
"""Of all files together: more than any set for LoRA, less than a disk."""
_ATTEMPTS: Final = 5
_REDIRECTS: Final = 5
_TIMEOUT: Final = httpx.Timeout(60.0, connect=15.0)

Resolve = Callable[[str], Sequence[str]]
"""Host name -> its addresses."""


class DownloadFailed(TransientError):
    """A server of training data did not answer, or not completely, several times."""

    reason = "DataUnavailable"


def fetch(
    urls: Iterable[str],
    directory: Path,
    *,
    allow: Sequence[str] = (),
    limit_bytes: int = LIMIT_BYTES,
    resolve: Resolve | None = None,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Return `directory` with one file for each URL; a file that is there is not fetched again.

    Raises:
        InvalidWorkspace: a URL leads where it must not, is no file, or the files are too big.
        DownloadFailed: try the job again later.
    """
    directory.mkdir(parents=True, exist_ok=True)
    guard = _Guard(allow, resolve or _addresses)
    # Proxies of the environment would resolve names again, behind the check.
    with httpx.Client(transport=transport, trust_env=False, follow_redirects=False, timeout=_TIMEOUT) as client:
        left = limit_bytes
        for url in urls:
            target = directory / file_name(url)
            if not target.exists():
                _persistently(client, guard, url, target, limit_bytes=left, sleep=sleep)
            left -= target.stat().st_size
    return directory


def file_name(url: str) -> str:
    """Return the name of the file for `url`: its own, after a hash that keeps equal names apart; no query, no secret."""
    name = Path(unquote(urlsplit(url).path)).name or "data"
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"


def shown(url: str) -> str:
    """Return `url` without user, password and query, for people and logs."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


class _Guard:
    """Says where a request may go."""

    def __init__(self, allow: Sequence[str], resolve: Resolve) -> None:
        self._resolve = resolve
        self._hosts = {entry.strip().lower() for entry in allow}
        self._networks = [network for entry in allow if (network := _network(entry.strip()))]

    def address(self, url: str) -> str:
        """Return the address to connect to for `url`.

        Raises:
            InvalidWorkspace: it is not http(s), or one of its addresses is not public.
            DownloadFailed: the name is not known.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidWorkspace(FIELD, f"{shown(url)} is no http or https URL")
        addresses = self._resolve(parts.hostname)
        for text in addresses:
            if not self._allowed(parts.hostname, ipaddress.ip_address(text)):
                raise InvalidWorkspace(
                    FIELD,
                    f"{shown(url)} leads to {text}, which is not a public address; the operator's setting for data "
                    "sources must allow this host or network",
                )
        return addresses[0]

    def _allowed(self, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if host.lower() in self._hosts or any(address in network for network in self._networks):
            return True
        return address.is_global and not address.is_multicast


def _persistently(
    client: httpx.Client, guard: _Guard, url: str, target: Path, *, limit_bytes: int, sleep: Callable[[float], None]
) -> None:
    part = target.with_name(f".{target.name}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            _once(client, guard, url, part, limit_bytes)
            break
        except (DownloadFailed, httpx.TransportError) as error:
            # Whoever gets on, however slowly, is not given up.
            failures = 1 if _size(part) > before else failures + 1
            if failures >= _ATTEMPTS:
                raise DownloadFailed(f"{FIELD}: {shown(url)}: {error}") from error
            sleep(2.0**failures)
    part.replace(target)
    logger.info("downloaded %s, %d bytes", shown(url), target.stat().st_size)


def _once(client: httpx.Client, guard: _Guard, url: str, part: Path, limit_bytes: int) -> None:
    done = _size(part)
    for _ in range(_REDIRECTS + 1):
        request = _request(client, guard, url, done)
        response = client.send(request, stream=True)
        try:
            if response.has_redirect_location:
                url = str(httpx.URL(url).join(response.headers["Location"]))
                continue
            _receive(response, url, part, done, limit_bytes)
            return
        finally:
            response.close()
    raise InvalidWorkspace(FIELD, f"{shown(url)}: more than {_REDIRECTS} redirects")


def _request(client: httpx.Client, guard: _Guard, url: str, done: int) -> httpx.Request:
    asked = httpx.URL(url)
    host = asked.netloc.rpartition(b"@")[2].decode()
    headers = {"Host": host, "User-Agent": "kaito-ray", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    # The checked address is what is connected to; TLS still proves the name.
    return client.build_request(
        "GET",
        asked.copy_with(host=guard.address(url)),
        headers=headers,
        extensions={"sni_hostname": asked.host},
    )


def _receive(response: httpx.Response, url: str, part: Path, done: int, limit_bytes: int) -> None:
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and done:
        part.unlink()
        raise DownloadFailed("the file changed while it was fetched")
    if response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise DownloadFailed(f"answered {response.status_code}")
    if not response.is_success:
        raise InvalidWorkspace(FIELD, f"{shown(url)} answered {response.status_code}; check the URL")
    resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
    done = done if resumed else 0
    length = response.headers.get("Content-Length")
    expected = done + int(length) if length else None
    with part.open("ab" if resumed else "wb") as file:
        for chunk in response.iter_raw():
            done += len(chunk)
            if done > limit_bytes:
                raise InvalidWorkspace(FIELD, f"{shown(url)}: data of more than {limit_bytes} bytes is left to fetch")
            file.write(chunk)
    if expected is not None and done < expected:
        raise DownloadFailed(f"the connection ended at byte {done} of {expected}")


def _addresses(host: str) -> Sequence[str]:
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise DownloadFailed(f"no address is known for {host!r}") from error


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
