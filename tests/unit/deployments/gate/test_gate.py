import pytest

from deployments.gate.gate import WAITING_BATCHES, Account, Gate, TooMany
from kaito_ray.api.workspace import Limits


def opened(*, batch: int = 100, **limits: int) -> Gate:
    gate = Gate(batch=batch)
    gate.configure(keys_required=False, limits=Limits(**limits) if limits else None)
    return gate


def everybody(gate: Gate) -> Account:
    caller = gate.caller(None)
    assert caller is not None
    return caller


def served(gate: Gate, caller: Account, *times: float) -> list[bool]:
    """Enter and leave at each time; return whether it was admitted."""
    admitted = []
    for now in times:
        admitted.append(gate.enter(caller, now) is None)
        if admitted[-1]:
            gate.leave()
    return admitted


def test_it_is_closed_until_it_is_configured() -> None:
    gate = Gate(batch=1)
    gate.accept({})
    assert gate.caller(None) is None
    assert gate.caller(b"") is None


def test_without_keys_everybody_may_call_and_shares_an_account() -> None:
    gate = opened()
    assert gate.caller(None) is gate.caller(b"anything")


def test_keys_that_are_required_and_absent_let_nobody_in() -> None:
    gate = opened()
    gate.configure(keys_required=True, limits=None)
    assert gate.caller(None) is None
    assert gate.caller(b"x") is None
    assert gate.unknown_keys == 2


def test_an_empty_key_opens_nothing() -> None:
    gate = Gate(batch=1)
    gate.accept({"empty": b""})
    assert gate.caller(b"") is None


def test_a_rotated_key_keeps_its_account_and_the_old_one_opens_nothing() -> None:
    gate = Gate(batch=1)
    gate.accept({"alice": b"one", "bob": b"other"})
    before = gate.caller(b"one")
    gate.accept({"alice": b"two"})
    assert gate.caller(b"two") is before
    assert gate.caller(b"one") is None
    assert gate.caller(b"other") is None


def test_requests_within_any_minute_are_limited_and_it_is_said_when_to_come_again() -> None:
    gate = opened(requests_per_minute=2)
    caller = everybody(gate)
    assert served(gate, caller, 0.0, 10.0, 20.0) == [True, True, False]
    assert gate.enter(caller, 20.5) == TooMany("requestsPerMinute", 2, retry_after_s=40)
    assert served(gate, caller, 60.0, 60.1, 70.0) == [True, False, True]


def test_a_refused_request_costs_nothing() -> None:
    gate = opened(requests_per_minute=1)
    caller = everybody(gate)
    assert served(gate, caller, 0.0, 30.0, 59.0, 60.0) == [True, False, False, True]
    assert (caller.requests, caller.refused["requestsPerMinute"]) == (2, 2)


def test_each_key_has_its_own_minute() -> None:
    gate = Gate(batch=10)
    gate.configure(keys_required=True, limits=Limits(requests_per_minute=1))
    gate.accept({"alice": b"a", "bob": b"b"})
    alice, bob = gate.caller(b"a"), gate.caller(b"b")
    assert alice is not None
    assert bob is not None
    assert served(gate, alice, 0.0, 1.0) == [True, False]
    assert served(gate, bob, 1.0) == [True]


def test_tokens_of_the_last_minute_are_limited() -> None:
    gate = opened(tokens_per_minute=100)
    caller = everybody(gate)
    gate.spend(caller, 0.0, prompt=40, completion=20)
    assert served(gate, caller, 1.0) == [True]
    gate.spend(caller, 10.0, prompt=0, completion=50)
    assert gate.enter(caller, 30.0) == TooMany("tokensPerMinute", 100, retry_after_s=30)
    assert served(gate, caller, 60.0) == [True]


def test_a_limit_that_is_lowered_counts_what_was_used_before() -> None:
    gate = opened(requests_per_minute=10)
    caller = everybody(gate)
    served(gate, caller, 0.0, 1.0, 2.0)
    gate.configure(keys_required=False, limits=Limits(requests_per_minute=2))
    assert gate.enter(caller, 3.0) == TooMany("requestsPerMinute", 2, retry_after_s=58)


@pytest.mark.parametrize(
    ("limits", "queued"), [({"max_queued": 3}, 3), ({"max_queued": 0}, 0), ({}, WAITING_BATCHES * 2)]
)
def test_the_queue_is_bounded_also_where_nobody_says_so(limits: dict[str, int], queued: int) -> None:
    gate = opened(batch=2, **limits)
    caller = everybody(gate)
    assert [gate.enter(caller, 0.0) for _ in range(2 + queued)] == [None] * (2 + queued)
    assert gate.enter(caller, 0.0) == TooMany("maxQueued", queued, retry_after_s=1)
    gate.leave()
    assert gate.enter(caller, 0.0) is None
