"""Decides about a request from its headers alone: whose it is, and whether it may go on now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Literal

from deployments.gate.keys import Keyring
from deployments.gate.minute import Minute
from kaito_ray.api.workspace import Limits

EVERYBODY: Final = ""
"""Name of the account where no keys are asked for."""
WAITING_BATCHES: Final = 4
"""Where the Workspace sets no `maxQueued`, so many full batches may wait; a longer queue only adds to everybody's wait."""
_QUEUE_RETRY_S: Final = 1
"""When to come again after a full queue: places get free with every answer, and nobody knows when."""

Reason = Literal["requestsPerMinute", "tokensPerMinute", "maxQueued"]


@dataclass
class Account:
    """What one key, or everybody, has used."""

    name: str
    requests: int = 0
    """Admitted so far."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    minute_requests: Minute = field(default_factory=Minute)
    minute_tokens: Minute = field(default_factory=Minute)


@dataclass(frozen=True)
class TooMany:
    """The request must come again later."""

    reason: Reason
    """The limit that it met."""
    limit: int
    retry_after_s: int


class Gate:
    """The accounts and the queue of one replica; closed until it is first configured."""

    def __init__(self, *, batch: int) -> None:
        """`batch` is how many requests the engine works on at once; those above that wait in it."""
        self._batch = batch
        self._limits = Limits()
        self._keys_required = True
        self._keyring = Keyring({})
        self._everybody = Account(EVERYBODY)
        self._accounts: dict[str, Account] = {}
        self.in_flight = 0
        """Requests that were admitted and are not answered to the end."""
        self.unknown_keys = 0
        """Requests without a key that is known."""

    def configure(self, *, keys_required: bool, limits: Limits | None) -> None:
        """Judge later requests by this; what was used in the last minute still counts."""
        self._keys_required = keys_required
        self._limits = limits or Limits()

    def accept(self, keys: Mapping[str, bytes]) -> None:
        """Accept these keys and no others from now on; a key that keeps its name keeps its account."""
        self._accounts = {name: self._accounts.get(name) or Account(name) for name in keys}
        self._keyring = Keyring(keys)

    @property
    def max_queued(self) -> int:
        """Requests that may wait."""
        wanted = self._limits.max_queued
        return self._batch * WAITING_BATCHES if wanted is None else wanted

    def accounts(self) -> tuple[Account, ...]:
        """Return everyone who may call."""
        return tuple(self._accounts.values()) if self._keys_required else (self._everybody,)

    def caller(self, key: bytes | None) -> Account | None:
        """Return who calls with that key; None where nobody does who may."""
        if not self._keys_required:
            return self._everybody
        name = None if key is None else self._keyring.name_of(key)
        if name is None:
            self.unknown_keys += 1
            return None
        return self._accounts[name]

    def enter(self, caller: Account, now: float) -> TooMany | None:
        """Admit one request of `caller`; `leave` must follow. Or say why not; then nothing is counted."""
        limits, too_many = self._limits, None
        if limits.requests_per_minute and (wait_s := caller.minute_requests.wait_s(now, limits.requests_per_minute)):
            too_many = TooMany("requestsPerMinute", limits.requests_per_minute, ceil(wait_s))
        elif limits.tokens_per_minute and (wait_s := caller.minute_tokens.wait_s(now, limits.tokens_per_minute)):
            too_many = TooMany("tokensPerMinute", limits.tokens_per_minute, ceil(wait_s))
        elif self.in_flight >= self._batch + self.max_queued:
            too_many = TooMany("maxQueued", self.max_queued, _QUEUE_RETRY_S)
        if too_many is not None:
            caller.refused[too_many.reason] += 1
            return too_many
        self.in_flight += 1
        caller.requests += 1
        if limits.requests_per_minute:
            caller.minute_requests.add(now, 1)
        return None

    def leave(self) -> None:
        """Say that an admitted request is answered, or given up."""
        self.in_flight -= 1

    def spend(self, caller: Account, now: float, *, prompt: int = 0, completion: int = 0) -> None:
        """Count tokens of `caller`."""
        caller.prompt_tokens += prompt
        caller.completion_tokens += completion
        if self._limits.tokens_per_minute:
            caller.minute_tokens.add(now, prompt + completion)
