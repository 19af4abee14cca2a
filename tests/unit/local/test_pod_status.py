import pytest

from kaito_ray.local import pod_status
from kaito_ray.local.pod_status import Container
from tests.unit.local.manifests import pod

RUNNING = Container(state=pod_status.running("2026-01-01T00:00:00Z"), last_state={}, restarts=0, ready=True, pid=7)


@pytest.mark.parametrize(
    ("restarts", "ran_s", "wait_s"),
    [
        pytest.param(0, 1, 0, id="the first restart is at once"),
        pytest.param(1, 1, 10, id="then ten seconds"),
        pytest.param(3, 1, 40, id="doubling"),
        pytest.param(20, 1, 300, id="up to five minutes"),
        pytest.param(20, 601, 0, id="a long run forgets the past"),
    ],
)
def test_backoff(restarts, ran_s, wait_s):
    assert pod_status.backoff_s(restarts, ran_s) == wait_s


def test_a_running_ready_process_is_a_running_ready_pod():
    status = pod_status.pod_status(pod(), RUNNING)

    assert status["phase"] == "Running"
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    assert status["containerStatuses"][0]["containerID"] == "process://7"
    assert status["podIP"] == "127.0.0.1"


def test_a_pod_that_waits_for_its_first_start_is_pending():
    waiting = Container(pod_status.waiting("CreateContainerConfigError", "no Secret"), {}, 0, ready=False)

    status = pod_status.pod_status(pod(ready=False), waiting)

    assert status["phase"] == "Pending"
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")


def test_the_status_reads_back_as_what_it_was_written_from():
    stored = {**pod(), "status": pod_status.pod_status(pod(), RUNNING)}

    assert pod_status.of(stored) == Container(RUNNING.state, {}, 0, ready=True)


def test_times_stay_while_nothing_changes():
    first = {**pod(), "status": pod_status.pod_status(pod(), RUNNING)}
    for c in first["status"]["conditions"]:
        c["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    first["status"]["startTime"] = "2020-01-01T00:00:00Z"

    assert pod_status.pod_status(first, RUNNING) == first["status"]


@pytest.mark.parametrize(("code", "reason"), [(0, "Completed"), (137, "Error")])
def test_how_a_process_ended(code, reason):
    assert pod_status.terminated(code, None)["terminated"]["reason"] == reason
