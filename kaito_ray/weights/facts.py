"""What a plan needs to know of a model that is in no catalog: its `config.json` and the size of its weights.

A few kilobytes from the hub, a mirror of it or a directory; never the weights. The revision is resolved to a commit, so
that what was planned is what is served. Every answer is bounded: nobody's mirror may fill the operator's memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kaito_ray.weights.problems import ModelAccessDenied, ModelNotFound, SourceUnreachable, WeightsUnavailable

if TYPE_CHECKING:
    import httpx  # at run time only where a hub is asked: a plan of a preset answers sooner without

HUB: Final = "https://huggingface.co"
TIMEOUT_S: Final = 10.0
CONFIG_LIMIT_BYTES: Final = 2**20
ANSWER_LIMIT_BYTES: Final = 16 * 2**20
"""For the list of a repository's files, and for the index of its safetensors."""
_INDEX: Final = "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelFacts:
    """One model at one commit."""

    config: Mapping[str, Any]
    """Its `config.json`."""
    weights_bytes: int
    """Sum of the weight files that the engine loads."""
    hub: str | None = None
    """`org/model`, where it comes from a hub."""
    commit: str | None = None
    """The commit that the revision stood for."""
    directory: Path | None = None
    """Where it is, if it is here."""
    gated: bool = False
    """The hub asks for a token of somebody who accepted the licence."""
    license: str = "unknown"
    """As the model's card says."""


def endpoint() -> str:
    """Return the hub's address: `HF_ENDPOINT`, which names a mirror, else the hub itself."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def of_directory(folder: Path) -> ModelFacts:
    """Return the facts of a model in a directory, as it is downloaded from a hub.

    Raises:
        WeightsUnavailable: there is no readable config.json, or no weights.
    """
    config = folder / "config.json"
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsUnavailable(f"{config} cannot be read: {error}") from error
    sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
    weights = _weights(sizes)
    if not weights:
        raise WeightsUnavailable(f"{folder} holds no *.safetensors and no *.bin; download the weights too")
    return ModelFacts(config=_mapping(found, str(config)), weights_bytes=weights, directory=folder.resolve())


def of_hub(
    repository: str, revision: str | None = None, *, hub: str | None = None, token: str | None = None
) -> ModelFacts:
    """Return the facts of `org/model` at a commit, branch or tag (absent: the default branch); blocks for seconds.

    Raises:
        ModelNotFound: the hub knows no such model or revision, or hides it.
        ModelAccessDenied: the model is gated, and the token, if any, does not open it.
        SourceUnreachable: the hub did not answer, or failed.
        WeightsUnavailable: it is no model that can be planned.
    """
    import httpx

    base = (hub or endpoint()).rstrip("/")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S, follow_redirects=True)
    with client, _in_our_words(base):
        at = f"/revision/{revision}" if revision else ""
        about = _json(client, f"/api/models/{repository}{at}?blobs=true", ANSWER_LIMIT_BYTES, repository, revision)
        commit = str(about.get("sha") or revision or "main")
        files = f"/{repository}/resolve/{commit}"
        config = _json(client, f"{files}/config.json", CONFIG_LIMIT_BYTES, repository, revision)
        sizes = {str(file.get("rfilename")): file.get("size") for file in about.get("siblings") or ()}
        weights = _weights({name: int(size or 0) for name, size in sizes.items()})
        if not weights and _INDEX in sizes:
            index = _json(client, f"{files}/{_INDEX}", ANSWER_LIMIT_BYTES, repository, revision)
            weights = int((index.get("metadata") or {}).get("total_size") or 0)
        if not weights:
            weights = _asked_sizes(client, files, sizes)
    if not weights:
        raise WeightsUnavailable(
            f"{repository} has no *.safetensors and no *.bin of a known size on {base}; name a repository with weights"
        )
    return ModelFacts(
        config=config,
        weights_bytes=weights,
        hub=repository,
        commit=commit,
        gated=bool(about.get("gated")),
        license=str((about.get("cardData") or {}).get("license") or "unknown"),
    )


def _weights(sizes: Mapping[str, int]) -> int:
    """Return the bytes of the files that the engine loads: safetensors, or else pickles; of Mistral's two forms, one."""
    here = {name: size for name, size in sizes.items() if "/" not in name}
    for prefix, suffix in (("model", ".safetensors"), ("", ".safetensors"), ("pytorch_model", ".bin"), ("", ".bin")):
        if found := sum(s for name, s in here.items() if name.startswith(prefix) and name.endswith(suffix)):
            return found
    return 0


def _asked_sizes(client: httpx.Client, files: str, names: Mapping[str, Any]) -> int:
    """Return the same where a mirror lists files without sizes: each is asked for its head."""
    sizes = {}
    for name in names:
        if "/" not in name and name.endswith((".safetensors", ".bin")):
            answer = client.head(f"{files}/{name}")
            sizes[name] = int(answer.headers.get("X-Linked-Size") or answer.headers.get("Content-Length") or 0)
    return _weights(sizes)


def _json(client: httpx.Client, path: str, limit_bytes: int, repository: str, revision: str | None) -> dict[str, Any]:
    with client.stream("GET", path) as answer:
        _require_good(answer, repository, revision)
        text = bytearray()
        for chunk in answer.iter_bytes():
            text += chunk
            if len(text) > limit_bytes:
                raise WeightsUnavailable(f"{answer.url} is larger than {limit_bytes} bytes; that is no model's")
    try:
        return dict(_mapping(json.loads(text), str(answer.url)))
    except ValueError as error:
        raise WeightsUnavailable(f"{answer.url} is not JSON: {error}") from error


def _mapping(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise WeightsUnavailable(f"{where} is not a JSON object")
    return found


def _require_good(answer: httpx.Response, repository: str, revision: str | None) -> None:
    """Tell what a hub's refusals mean; they are told apart by a header of its own."""
    if answer.is_success:
        return
    code, status = answer.headers.get("X-Error-Code", ""), answer.status_code
    if status >= 500 or status in (408, 429):
        raise SourceUnreachable(f"the hub failed on {repository} with {status}")
    if code == "GatedRepo" or (status == 403 and code != "RepoNotFound"):
        raise ModelAccessDenied(
            f"{repository} is gated: accept its licence on the hub, and give a token that may read it"
        )
    if code == "RevisionNotFound":
        raise ModelNotFound(f"{repository} has no revision {revision!r}; check it on the hub")
    if code == "EntryNotFound":
        raise WeightsUnavailable(f"{repository} has no config.json, so it is no model in the form that engines load")
    if status in (401, 404):
        raise ModelNotFound(f"the hub knows no {repository}, or it is private: check the name, or give a token")
    raise WeightsUnavailable(f"the hub refused {repository} with {status}")


@contextmanager
def _in_our_words(base: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnreachable(f"the hub ({base}) cannot be reached ({error or type(error).__name__})") from error
