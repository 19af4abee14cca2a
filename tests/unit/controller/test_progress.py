"""What a RayService's status says about serving."""

from typing import Any

import pytest

from kaito_ray.controller.progress import Progress, progress, shortened
from kaito_ray.testing.builders import pending_ray_service_status, ready_ray_service_status

SLOW_START = """Deployment 'S' in application 'workspace' has 1 replicas that have taken more than 30s to initialize.
This may be caused by a slow __init__ or reconfigure method."""
PENDING = "WorkspaceInferenceStatusPending"


def of(status: dict[str, Any] | None, *, was_ready: bool = False) -> Progress:
    return progress({"status": status} if status is not None else None, was_ready=was_ready)


def head(reason: str, message: str = "") -> dict[str, Any]:
    return pending_ray_service_status(head={"reason": reason, "message": message})


STEPS = [
    pytest.param(None, PENDING, "the Ray service is being created", id="nothing yet"),
    pytest.param({}, PENDING, "waiting for KubeRay to create the Ray cluster", id="not seen by KubeRay"),
    pytest.param(pending_ray_service_status(), PENDING, "waiting for the Ray pod", id="no pod"),
    pytest.param(head("ContainersNotReady"), PENDING, "starting Ray", id="pod starts"),
    pytest.param(
        pending_ray_service_status(head={"status": "True", "reason": "HeadPodRunningAndReady"}),
        PENDING,
        "Ray runs; starting Ray Serve",
        id="Serve starts",
    ),
    pytest.param(
        pending_ray_service_status({"status": "DEPLOYING"}), PENDING, "loading the model", id="the model is loaded"
    ),
    pytest.param(
        pending_ray_service_status(
            {"status": "DEPLOYING", "serveDeploymentStatuses": {"S": {"status": "UPDATING", "message": "no GPU free"}}}
        ),
        PENDING,
        "loading the model: no GPU free",
        id="Serve says what it waits for",
    ),
    pytest.param(
        pending_ray_service_status(
            {"status": "DEPLOYING", "serveDeploymentStatuses": {"S": {"status": "UPDATING", "message": SLOW_START}}}
        ),
        PENDING,
        "loading the model",
        id="that it takes more than half a minute is no news",
    ),
    pytest.param(
        pending_ray_service_status({"status": "RUNNING"}),
        PENDING,
        "the model is loaded; waiting for its endpoint",
        id="loaded",
    ),
    pytest.param(
        head("ImagePullBackOff", "no such tag"),
        "ImagePullError",
        "the worker image cannot be pulled: no such tag",
        id="no image",
    ),
    pytest.param(
        head("CrashLoopBackOff"),
        "ContainerCrashLoopBackOff",
        "the Ray container keeps crashing; see its logs",
        id="crashes",
    ),
]


@pytest.mark.parametrize(("status", "reason", "message"), STEPS)
def test_each_step_has_its_words(status: dict[str, Any] | None, reason: str, message: str) -> None:
    assert of(status) == Progress(False, reason, message)


def test_ready_needs_an_endpoint_and_a_running_application() -> None:
    assert of(ready_ray_service_status()).ready
    assert not of(ready_ray_service_status(application="DEPLOYING")).ready


def test_a_change_in_place_does_not_make_it_unready() -> None:
    assert of(ready_ray_service_status(application="DEPLOYING"), was_ready=True).ready


def test_an_upgrade_that_hides_the_old_applications_does_not_make_it_unready() -> None:
    status = ready_ray_service_status()
    status["activeServiceStatus"]["applicationStatuses"] = {}
    status["pendingServiceStatus"] = {
        "rayClusterName": "smol-new",
        "applicationStatuses": {"w": {"status": "DEPLOYING"}},
    }
    assert of(status, was_ready=True).ready


@pytest.mark.parametrize(("state", "reason"), [("DEPLOY_FAILED", "DeployFailed"), ("UNHEALTHY", "ReplicaUnhealthy")])
def test_a_failure_is_told_even_if_it_was_ready(state: str, reason: str) -> None:
    found = of(ready_ray_service_status(application=state), was_ready=True)
    assert (found.ready, found.reason) == (False, reason)


def test_why_a_deployment_failed_is_told_and_not_only_that_it_did() -> None:
    traceback = (
        "The deployment failed to start 3 times in a row. See controller logs for details. Error:\n"
        "Traceback (most recent call last):\n  raise WeightsUnavailable(\n"
        "kaito_ray.weights.problems.WeightsUnavailable: the hub cannot be reached; set HF_ENDPOINT to a mirror"
    )
    application = {
        "status": "DEPLOY_FAILED",
        "message": "Failed to update the deployments ['S'].",
        "serveDeploymentStatuses": {"S": {"status": "DEPLOY_FAILED", "message": traceback}},
    }
    assert of(pending_ray_service_status(application)).message == (
        "Ray Serve could not start the model: the hub cannot be reached; set HF_ENDPOINT to a mirror; "
        "correct the Workspace, or see its logs"
    )


def test_kuberay_giving_up_is_told() -> None:
    gave_up = {"type": "Ready", "status": "False", "reason": "ValidationFailed", "message": "name is too long"}
    found = of({"conditions": [gave_up]})
    assert (found.reason, found.message) == ("ValidationFailed", "KubeRay gave up: name is too long")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Traceback:\n  File a\nValueError: bad\nThe above exception ...\n", "ValueError: bad"),
        ("kaito_ray.errors.DoesNotFit: too big\n", "too big"),
        ("one\ntwo\n", "two"),
        ("", "no reason was given"),
        ("x" * 900, "x" * 399 + "…"),
    ],
)
def test_a_traceback_is_shortened_to_what_happened(message: str, expected: str) -> None:
    assert shortened(message) == expected
