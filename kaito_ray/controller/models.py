"""Models that are in no catalog: their facts are fetched in the background, once for all Workspaces that name them.

Nothing here blocks a worker, and nothing is asked of a hub inside admission. Whoever asks while a fetch is under way is
told so and looked at again when it ends; what failed is tried again after a growing delay. What was planned once is
kept with the RayService or RayJob (`pinned`), so a hub that is down later, or a branch that moves, changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from kaito_ray.api.app_args import ModelSource
from kaito_ray.catalog.from_config import preset_of
from kaito_ray.catalog.load import presets
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.controller.queue import Key
from kaito_ray.errors import InvalidWorkspace, KaitoRayError
from kaito_ray.weights import facts
from kaito_ray.weights.facts import ModelFacts
from kaito_ray.weights.problems import ModelNotFound, SourceUnreachable

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 5.0
LAST_RETRY_S: Final = 300.0
MOST_MODELS: Final = 256
"""Models remembered at most; the one that was asked for longest ago goes first."""


class ModelUnavailable(InvalidWorkspace):
    """The model's facts are not there (yet); it is asked for again after `again_s`."""

    def __init__(self, field: str, message: str, *, reason: str, again_s: float) -> None:
        super().__init__(field, message)
        self.reason = reason
        self.again_s = again_s

    @property
    def pending(self) -> bool:
        """Whether it is on its way, which is no fault."""
        return self.reason == FETCHING


FETCHING: Final = "FetchingModel"


class Wanted(NamedTuple):
    """What is asked of the hub."""

    repository: str
    revision: str | None = None
    token: str | None = None


class Models(Protocol):
    """Where the presets of unknown models come from."""

    def look_up(self, wanted: Wanted, key: Key, field: str) -> ModelPreset:
        """Return the model's preset; `key` is looked at again when a fetch ends.

        Raises:
            ModelUnavailable: it is on its way, or it cannot be had.
            InvalidWorkspace: its config.json cannot be planned.
        """
        ...


@dataclass
class _Entry:
    waiting: set[Key] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    found: ModelFacts | None = None
    error: KaitoRayError | None = None
    failures: int = 0
    retry_at: float = 0.0


class FetchedModels:
    """See the module."""

    def __init__(
        self,
        on_news: Callable[[Key], None],
        *,
        fetch: Callable[[Wanted], ModelFacts],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` blocks, and runs in a thread."""
        self._on_news = on_news
        self._fetch = fetch
        self._clock = clock
        self._known: OrderedDict[Wanted, _Entry] = OrderedDict()

    def look_up(self, wanted: Wanted, key: Key, field: str) -> ModelPreset:
        """See `Models`."""
        entry = self._known.setdefault(wanted, _Entry())
        self._known.move_to_end(wanted)
        self._forget_the_oldest()
        if entry.found is not None:
            return preset_from(entry.found, field)
        now = self._clock()
        if entry.task is None and now >= entry.retry_at:
            entry.task = asyncio.get_running_loop().create_task(self._run(wanted, entry))
        if entry.task is not None:
            entry.waiting.add(key)
        again_s = LAST_RETRY_S if entry.task is not None else max(FIRST_RETRY_S / 10, entry.retry_at - now)
        if entry.error is None:
            words = f"reading config.json of {wanted.repository}"
            raise ModelUnavailable(field, words, reason=FETCHING, again_s=again_s)
        # What failed stands while it is tried again: a reason that comes and goes is no reason.
        words = in_words(entry.error, wanted.repository)
        raise ModelUnavailable(field, words, reason=_reason(entry.error), again_s=again_s)

    async def _run(self, wanted: Wanted, entry: _Entry) -> None:
        try:
            entry.found = await asyncio.to_thread(self._fetch, wanted)
            entry.error = None
        except KaitoRayError as error:
            entry.error = error
            entry.failures += 1
            entry.retry_at = self._clock() + min(FIRST_RETRY_S * 2.0 ** (entry.failures - 1), LAST_RETRY_S)
            log.warning("%s: %s", wanted.repository, error)
        finally:
            entry.task = None
            waiting, entry.waiting = entry.waiting, set()
            for key in waiting:
                self._on_news(key)

    def _forget_the_oldest(self) -> None:
        while len(self._known) > MOST_MODELS:
            oldest = next(iter(self._known))
            self._known.pop(oldest)


def fetch_with(hub: str, models_dir: Path | None) -> Callable[[Wanted], ModelFacts]:
    """Return how facts are fetched: from the directory of models that are here, where the model is in it, else the hub."""

    def fetch(wanted: Wanted) -> ModelFacts:
        folder = models_dir / wanted.repository if models_dir else None
        if folder is not None and (folder / "config.json").is_file():
            return replace(facts.of_directory(folder), hub=wanted.repository)
        return facts.of_hub(wanted.repository, wanted.revision, hub=hub, token=wanted.token)

    return fetch


def preset_from(found: ModelFacts, field: str) -> ModelPreset:
    """Return the preset of a model that is in no catalog.

    Raises:
        InvalidWorkspace: its config.json cannot be planned.
    """
    source = ModelSource(
        hub=found.hub, revision=found.commit, local_dir=str(found.directory) if found.directory else None
    )
    return preset_of(
        source,
        found.config,
        weights_bytes=found.weights_bytes,
        gated=found.gated,
        license=found.license,
        field=field,
    )


def in_words(error: KaitoRayError, repository: str) -> str:
    """Return the error with what to do: near presets for a model that is not there, the Secret for one that is closed."""
    if isinstance(error, ModelNotFound) and (near := _near(repository)):
        return f"{error}; did you mean {' or '.join(near)}?"
    if isinstance(error, SourceUnreachable):
        return f"{error}; let it be reached from here, or set HF_ENDPOINT to a mirror of it"
    return str(error)


def _near(repository: str) -> list[str]:
    known = {alias.rpartition("/")[2]: name for name, preset in presets().items() for alias in preset.names}
    found = get_close_matches(repository.rpartition("/")[2].lower(), known, n=3, cutoff=0.6)
    return list(dict.fromkeys(known[alias] for alias in found))


def _reason(error: KaitoRayError) -> str:
    return "HubUnreachable" if isinstance(error, SourceUnreachable) else error.reason
