"""Weights from the Hugging Face hub, at a pinned revision.

`HF_TOKEN`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean everywhere; the library reads them itself. A
revision that is a branch is resolved once, when it is first fetched: a restart serves what it served before.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from kaito_ray.weights.problems import SourceUnreachable, WeightsUnavailable
from kaito_ray.weights.progress import Progress
from kaito_ray.weights.store import Store

WATCH_EVERY_S = 0.5
PROBE_TIMEOUT_S = 5.0
"""For the first answer of the hub: a firewall that drops packets must not hold a start up."""

NOT_NEEDED = ("*.gguf", "*.onnx", "onnx/*", "original/*", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.mlmodel")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""The same weights once more, in a format that can run code; left out where there are safetensors."""


def fetch(repository: str, revision: str | None, store: Store, progress: Progress) -> Path:
    """Return the directory of the repository's files.

    Raises:
        SourceUnreachable: the hub did not answer.
        WeightsUnavailable: the hub refused: no such repository or revision, or no permission.
    """
    if constants.HF_HUB_OFFLINE and (kept := _in_own_cache(repository, revision)):
        return kept
    return store.get(f"hub {repository} {revision or 'main'}", lambda to: _download(repository, revision, to, progress))


def _in_own_cache(repository: str, revision: str | None) -> Path | None:
    """Return the person's own copy in the library's cache (`HF_HOME`), the only place to look when offline."""
    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _download(repository: str, revision: str | None, to: Path, progress: Progress) -> None:
    with _in_our_words(repository, revision):
        info = HfApi().model_info(repository, revision=revision, timeout=PROBE_TIMEOUT_S, files_metadata=True)
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    safe = any(name.endswith(".safetensors") for name in files)
    ignored = [*NOT_NEEDED, *(PICKLES if safe else ())]
    wanted_bytes = sum(size for name, size in files.items() if not any(fnmatch(name, pattern) for pattern in ignored))
    progress.say(f"fetching {repository} at {info.sha} from the hub, {wanted_bytes / 1e6:.0f} MB")
    disable_progress_bars()
    with (
        _in_our_words(repository, revision),
        progress.counting(repository) as counted,
        _watching(to, wanted_bytes, counted),
    ):
        snapshot_download(repository, revision=info.sha, local_dir=to, ignore_patterns=ignored)
    shutil.rmtree(to / ".cache", ignore_errors=True)


@contextmanager
def _in_our_words(repository: str, revision: str | None) -> Iterator[None]:
    """Tell a hub that cannot be reached (try the next source) from one that refuses (tell the person)."""
    try:
        yield
    except GatedRepoError as error:
        raise WeightsUnavailable(
            f"the hub asks for permission to read {repository}: accept its licence on the hub, and give a token as "
            "HF_TOKEN (in a Workspace: inference.preset.presetOptions.modelAccessSecret)"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsUnavailable(
            f"the hub knows no {repository}, or it is private: check the name, and give a token as HF_TOKEN "
            "(in a Workspace: inference.preset.presetOptions.modelAccessSecret)"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsUnavailable(f"{repository} has no revision {revision!r} on the hub; check it there") from error
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code < 500:
            raise WeightsUnavailable(f"the hub refused {repository}: {error}") from error
        raise SourceUnreachable(f"the hub failed on {repository}: {error}") from error
    except (httpx2.HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise SourceUnreachable(f"the hub ({constants.ENDPOINT}) cannot be reached ({error})") from error


@contextmanager
def _watching(directory: Path, total_bytes: int, report: Callable[[int, int], None]) -> Iterator[None]:
    """Report the size of `directory` while the body runs: partial files count, whatever way they are fetched."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(WATCH_EVERY_S):
            report(_size_bytes(directory), total_bytes)

    watcher = threading.Thread(target=watch, name="download-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _size_bytes(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        # Files are renamed while we look.
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
