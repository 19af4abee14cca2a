"""Weights from an OCI image: pulled by digest with the Workspace's credentials, kept like those of a hub.

Understood are images with a model's files in one folder, wherever that is, and ORAS artifacts whose layers are the files.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from kaito_ray.errors import AdapterRefused, InvalidWorkspace, KaitoRayError
from kaito_ray.registry.client import Image, Registry
from kaito_ray.registry.keyring import Keyring
from kaito_ray.registry.reference import Reference, parse
from kaito_ray.weights.image_files import ModelFiles
from kaito_ray.weights.problems import WeightsUnavailable
from kaito_ray.weights.progress import Progress
from kaito_ray.weights.store import Store

FIELD: Final = "inference.preset.presetOptions.image"


def fetch(image: str, store: Store, progress: Progress, *, credentials: Path | None = None) -> Path:
    """Return the directory of the model's files; `credentials` is a directory of docker configs.

    Raises:
        WeightsUnavailable: the image cannot be had, or holds no model; the message says why.
    """
    try:
        reference = parse(image, field=FIELD)
        keyring = Keyring.read(credentials)
        found = asyncio.run(_resolved(reference, keyring))
        # By digest: a tag that moves is another model, and an image that is named twice is fetched once.
        return store.get(
            f"image {reference.repository} {found.digest}",
            lambda to: asyncio.run(_download(reference, keyring, found, to, progress)),
        )
    except (AdapterRefused, InvalidWorkspace) as error:
        raise WeightsUnavailable(f"the image {image} cannot be used: {error}") from error
    except WeightsUnavailable:
        raise
    except KaitoRayError as error:
        raise WeightsUnavailable(f"the weights' image cannot be pulled: {error}") from error


async def _resolved(reference: Reference, keyring: Keyring) -> Image:
    async with Registry(reference, keyring) as registry:
        return await registry.image(await registry.resolve())


async def _download(reference: Reference, keyring: Keyring, image: Image, to: Path, progress: Progress) -> None:
    """Fetch and unpack layer after layer, so that the packed form of no more than one lies on the disk."""
    progress.say(f"fetching {reference} ({image.digest[:19]}), {image.size_bytes / 1e6:.0f} MB")
    files = ModelFiles(to)
    done = 0
    blobs = to.with_name(f"{to.name}.blobs")
    blobs.mkdir(exist_ok=True)
    async with Registry(reference, keyring) as registry:
        with progress.counting(str(reference)) as counted:
            for layer in image.layers:
                blob = blobs / layer.digest.replace(":", "-")
                await registry.download(layer, blob, partial(_report, counted, done, image.size_bytes))
                await asyncio.to_thread(files.add, layer, blob)
                blob.unlink()
                done += layer.size_bytes
    await asyncio.to_thread(files.finish)
    await asyncio.to_thread(shutil.rmtree, blobs)


def _report(counted: Callable[[int, int], None], before_bytes: int, all_bytes: int, done_bytes: int) -> None:
    counted(before_bytes + done_bytes, all_bytes)
