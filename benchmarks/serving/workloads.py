"""The workloads of the comparison: a model, its sides, what is asked of them, and which figures have a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.serving import sides
from benchmarks.serving.load import Answered
from benchmarks.serving.sides import MODEL, Model
from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.tiny_model import make_adapter, make_talking_base

ADAPTERS = 8
PROMPT = "Once upon a time there was"
PACE = {"first_ms": 20, "gap_ms": 5}


@dataclass(frozen=True)
class Ask:
    """One load, sent to every side."""

    name: str
    clients: int
    requests: int
    bodies: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Row:
    """One figure: of `side` against `beside`, in the same pair."""

    ask: str
    figure: Literal["requests_per_s", "chunks_per_s", "first_ms"]
    side: str = "ours"
    beside: str = "plain"
    at_least: float | None = None
    """Target of the ratio."""
    at_most: float | None = None
    """Target of the difference."""

    @property
    def compare(self) -> Callable[[float, float], float]:
        """Times are subtracted, rates divided."""
        return (lambda a, b: a - b) if self.figure == "first_ms" else (lambda a, b: a / b)

    def of(self, answered: Mapping[str, Answered]) -> float:
        """Return the figure of one pair."""
        return self.compare(getattr(answered[self.side], self.figure), getattr(answered[self.beside], self.figure))


@dataclass(frozen=True)
class Workload:
    """See the module."""

    start: Callable[[Path], Any]
    """Context manager: scratch directory -> URL of each side."""
    asks: tuple[Ask, ...]
    rows: tuple[Row, ...]


def body(tokens: int, *, stream: bool, model: str = MODEL, pace: dict[str, int] | None = None) -> dict[str, Any]:
    """Return a request for exactly so many tokens; `pace` is for the mock engine."""
    asked = {"model": model, "prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return asked | ({"stream": True} if stream else {}) | ({"vllm_xargs": pace} if pace is not None else {})


def tiny(scratch: Path, *, mock: bool) -> Model:
    """Return a model of two layers with random weights, and adapters for it."""
    base = make_talking_base(scratch / "tiny")
    return Model(base, _engine(ADAPTERS), _adapters(base, scratch, ADAPTERS), mock=mock)


def smollm2(scratch: Path, adapters: int) -> Model:
    """Return a small real model, and adapters for it."""
    base = local_directory(find("smollm2-135m-instruct").source)
    return Model(base, {**_engine(adapters), "dtype": "bfloat16"}, _adapters(base, scratch, adapters))


def _engine(adapters: int) -> dict[str, Any]:
    lora = {"enable_lora": True, "max_loras": 8, "max_cpu_loras": adapters}
    return {"max_model_len": 512, "max_num_seqs": 64, "kv_cache_memory_bytes": 2**28, **lora}


def _adapters(base: Path, scratch: Path, count: int) -> dict[str, Path]:
    names = [f"adapter-{index}" for index in range(count)]
    return {name: make_adapter(base, scratch / name, seed=index) for index, name in enumerate(names)}


@contextmanager
def _mock(scratch: Path) -> Iterator[dict[str, str]]:
    model = tiny(scratch, mock=True)
    with ExitStack() as stack:
        plain = stack.enter_context(sides.plain(model, scratch))
        yield {
            "plain": plain,
            "proxy": stack.enter_context(sides.proxied(plain, scratch)),
            "router": stack.enter_context(sides.routed(plain, scratch)),
            "ours": stack.enter_context(sides.ours(model, scratch)),
        }


@contextmanager
def _peers(scratch: Path) -> Iterator[dict[str, str]]:
    model = tiny(scratch, mock=True)
    with ExitStack() as stack:
        yield {
            "plain": stack.enter_context(sides.plain(model, scratch)),
            "ours": stack.enter_context(sides.ours(model, scratch)),
            "direct": stack.enter_context(sides.ray_serve_llm(model, scratch, direct=True)),
            "default": stack.enter_context(sides.ray_serve_llm(model, scratch, direct=False)),
        }


@contextmanager
def _tiny(scratch: Path) -> Iterator[dict[str, str]]:
    model = tiny(scratch, mock=False)
    bare = sides.ours(model, scratch, features=False)
    with sides.plain(model, scratch) as plain, sides.ours(model, scratch) as ours, bare as bare_url:
        yield {"plain": plain, "ours": ours, "bare": bare_url}


@contextmanager
def _smollm2(scratch: Path) -> Iterator[dict[str, str]]:
    model = smollm2(scratch, 32)
    with sides.plain(model, scratch) as plain, sides.ours(model, scratch) as ours:
        yield {"plain": plain, "ours": ours}


def _real(tokens: int, *, scale: float) -> tuple[Ask, ...]:
    sizes = ((1, 32), (8, 160), (32, 320))
    return tuple(
        Ask(
            f"c={clients}{', streaming' if stream else ''}",
            clients,
            max(clients, int(requests * scale)),
            (body(tokens, stream=stream),),
        )
        for clients, requests in sizes
        for stream in (True, False)
    )


def _in_turn(count: int) -> Ask:
    bodies = tuple(body(16, stream=True, model=f"adapter-{index}") for index in range(count))
    return Ask(f"{count} adapter{'s' if count > 1 else ''} in turn, c=8", 8, 64, bodies)


def _as_it_is(ask: Ask, side: str) -> Row:
    """Return a figure of a peer beside plain vLLM, without a target."""
    return Row(ask.name, "first_ms" if ask.clients == 1 else "chunks_per_s", side=side)


_MOCK_ASKS = (
    Ask("first token, c=1", 1, 40, (body(2, stream=True, pace=PACE),)),
    Ask("64 tokens, c=32", 32, 192, (body(64, stream=True, pace=PACE),)),
    Ask("64 tokens, c=64", 64, 256, (body(64, stream=True, pace=PACE),)),
    Ask("flood, c=32", 32, 256, (body(64, stream=True, pace={}),)),
)
_TINY_ASKS, _SMOLLM2_ASKS = _real(32, scale=1), _real(32, scale=0.25)

WORKLOADS: dict[str, Workload] = {
    "mock": Workload(
        _mock,
        _MOCK_ASKS,
        (
            Row("first token, c=1", "first_ms", at_most=1.5),
            Row("64 tokens, c=32", "chunks_per_s", at_least=0.95),
            Row("64 tokens, c=64", "chunks_per_s", at_least=0.92),
            Row("flood, c=32", "chunks_per_s", at_least=0.55),
            *(_as_it_is(ask, peer) for peer in ("proxy", "router") for ask in _MOCK_ASKS),
        ),
    ),
    "peers": Workload(
        _peers,
        _MOCK_ASKS,
        (
            Row("flood, c=32", "chunks_per_s", beside="default", at_least=3.0),
            *(_as_it_is(ask, peer) for peer in ("direct", "default") for ask in _MOCK_ASKS),
        ),
    ),
    "tiny": Workload(
        _tiny,
        _TINY_ASKS,
        (
            *(Row(ask.name, "requests_per_s", at_least=0.95) for ask in _TINY_ASKS),
            *(Row(ask.name, "requests_per_s", beside="bare", at_least=0.97) for ask in _TINY_ASKS),
        ),
    ),
    "smollm2": Workload(
        _smollm2,
        (*_SMOLLM2_ASKS, *(_in_turn(count) for count in (1, 8, 32))),
        (
            *(Row(ask.name, "requests_per_s", at_least=0.95) for ask in _SMOLLM2_ASKS),
            *(Row(_in_turn(count).name, "requests_per_s", at_least=0.95) for count in (1, 8, 32)),
        ),
    ),
}
