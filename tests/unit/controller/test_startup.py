"""The phases of a first start, from what others wrote down."""

from dataclasses import replace
from typing import Any

from kaito_ray.api.status import Condition, ReplicaStart, StartPhase
from kaito_ray.api.workspace import Workspace
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.startup import startup
from kaito_ray.kube.cluster import RAY_SERVICES
from kaito_ray.testing.builders import workspace as manifest


def at(second: int) -> str:
    return f"2026-11-24T10:00:{second:02d}Z"


def condition(type_: str, second: int, status: Any = "True") -> Condition:
    return Condition(type=type_, status=status, reason="R", last_transition_time=at(second))


def seen(*recorded: StartPhase, cluster: dict[str, Any] | None = None, replica: ReplicaStart | None = None) -> Observed:
    wire = manifest(metadata={"creationTimestamp": at(0)})
    wire["status"] = {"startup": [phase.to_wire() for phase in recorded]}
    status = {"pendingServiceStatus": {"rayClusterName": "smol-abcde", **(cluster or {})}}
    service = {"metadata": {"name": "smol"}, "status": status}
    children = {(RAY_SERVICES, wire["metadata"]["name"]): service}
    return Observed(Workspace.from_wire(wire), wire, children=children, replica_start=replica)


def told(phases: tuple[StartPhase, ...]) -> list[tuple[str, int]]:
    return [(phase.name, phase.seconds) for phase in phases]


HEAD_READY = {
    "rayClusterStatus": {"conditions": [{"type": "HeadPodReady", "status": "True", "lastTransitionTime": at(9)}]},
    "applicationStatuses": {"workspace": {"status": "DEPLOYING"}},
}
PLANNED = StartPhase(name="Planned", at=at(1), seconds=1)


def test_the_first_pass_records_the_plan_alone() -> None:
    waits = [condition("NodesReady", 1, "False"), condition("InferenceReady", 1, "False")]
    assert startup(seen(), waits, now=at(1)) == (PLANNED,)


def test_each_phase_lasts_from_the_end_of_the_one_before() -> None:
    replica = ReplicaStart(weights=at(20), engine=at(31))
    conditions = [condition("NodesReady", 2), condition("InferenceReady", 33)]
    phases = startup(seen(PLANNED, cluster=HEAD_READY, replica=replica), conditions, now=at(12))
    assert told(phases) == [
        ("Planned", 1),
        ("MachineReady", 1),
        ("RayReady", 7),
        ("ServeReady", 3),
        ("WeightsReady", 8),
        ("EngineReady", 11),
        ("Answering", 2),
    ]
    assert sum(phase.seconds for phase in phases) == 33


def test_the_time_of_a_phase_that_nobody_dated_counts_for_the_next() -> None:
    phases = startup(seen(PLANNED, cluster=HEAD_READY), [condition("InferenceReady", 33)], now=at(12))
    assert told(phases) == [("Planned", 1), ("RayReady", 8), ("ServeReady", 3), ("Answering", 21)]


def test_what_was_recorded_stays_though_ray_is_restarted() -> None:
    ray = StartPhase(name="RayReady", at=at(9), seconds=8)
    later = {
        "rayClusterStatus": {
            "conditions": [{**HEAD_READY["rayClusterStatus"]["conditions"][0], "lastTransitionTime": at(40)}]
        }
    }
    assert ray in startup(seen(PLANNED, ray, cluster=later), [], now=at(41))


def test_after_the_first_answer_nothing_is_recorded_any_more() -> None:
    whole = (PLANNED, StartPhase(name="Answering", at=at(33), seconds=32))
    upgraded = replace(seen(*whole, cluster=HEAD_READY), replica_start=ReplicaStart(weights=at(50), engine=at(55)))
    assert startup(upgraded, [condition("InferenceReady", 33)], now=at(56)) == whole


def test_clocks_that_disagree_make_no_phase_negative() -> None:
    replica = ReplicaStart(weights=at(8), engine=at(20))
    phases = startup(seen(PLANNED, cluster=HEAD_READY, replica=replica), [], now=at(12))
    assert ("WeightsReady", 0) in told(phases)
    assert ("EngineReady", 8) in told(phases)


def test_once_a_cluster_serves_its_own_head_counts() -> None:
    around = seen(PLANNED)
    (service,) = around.children.values()
    service["status"] = {
        "pendingServiceStatus": {},
        "activeServiceStatus": {"rayClusterName": "smol-abcde", **HEAD_READY},
    }
    assert told(startup(around, [], now=at(12))) == [("Planned", 1), ("RayReady", 8), ("ServeReady", 3)]
