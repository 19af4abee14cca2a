"""Memory and descriptors of the processes that must not grow: our own, and those that serve."""

from __future__ import annotations

import json
import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from kaito_ray.local.processes import CLUSTERS_MARKER
from tests.e2e.clients import running

PERIOD_S = 2.0
WARM_UP = 1 / 3
"""The first part of the samples says nothing: caches fill, code is loaded."""
SERVING = ("ray::ServeReplica", "ray::ServeController", "VLLM::EngineCore", "VLLM::Worker")


@dataclass(frozen=True)
class Sample:
    memory_bytes: int
    descriptors: int


@dataclass(frozen=True)
class Grown:
    """The median of the first half after the warm-up, and of the second."""

    name: str
    before: Sample
    after: Sample

    def __str__(self) -> str:
        mb = [sample.memory_bytes / 1e6 for sample in (self.before, self.after)]
        return f"{self.name}: {mb[0]:.1f} -> {mb[1]:.1f} MB, {self.before.descriptors} -> {self.after.descriptors} fds"


@dataclass
class Growth:
    """Samples of the processes that run when the watch begins; one that ends has no more."""

    home: Path
    _samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    _stop: threading.Event = field(default_factory=threading.Event)

    def watched(self) -> AbstractContextManager[None]:
        found = dict(_ours(self.home)) | dict(_serving(self.home))
        return running(self._stop, [lambda: self._watch(found)])

    def _watch(self, found: dict[str, psutil.Process]) -> None:
        while not self._stop.wait(PERIOD_S):
            for name, process in found.items():
                with suppress(psutil.NoSuchProcess, FileNotFoundError):
                    self._samples[name].append(Sample(process.memory_info().rss, _descriptors(process.pid)))

    def grown(self) -> list[Grown]:
        return [_grown(name, samples[int(len(samples) * WARM_UP) :]) for name, samples in self._samples.items()]


def _descriptors(pid: int) -> int:
    """Count what is open, but for the locks that keep a removed adapter's files for a quarter of an hour."""
    opened = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            opened.append(entry.readlink())
    return sum("adapters/locks" not in str(target) for target in opened)


def _grown(name: str, samples: list[Sample]) -> Grown:
    middle = len(samples) // 2
    return Grown(name, *map(_median, (samples[:middle], samples[middle:])))


def _median(samples: list[Sample]) -> Sample:
    return Sample(
        int(statistics.median(sample.memory_bytes for sample in samples)),
        int(statistics.median(sample.descriptors for sample in samples)),
    )


def _ours(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    record = json.loads((home / "control-plane.json").read_text())
    yield "supervisor", psutil.Process(record["supervisor"]["pid"])
    for name, part in record["parts"].items():
        yield name, psutil.Process(part["pid"])


def _serving(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, IndexError):
            if process.environ().get(CLUSTERS_MARKER) == str(home / "ray"):
                title = process.cmdline()[0]
                for name in SERVING:
                    if title.startswith(name):
                        yield name, process
