"""Why a machine does not come, in the provider's words."""

import pytest

from kaito_ray.controller.claim_cause import of_claims
from kaito_ray.kube.cluster import Manifest
from kaito_ray.testing.builders import node_claim


def not_launched(reason: str, message: str) -> Manifest:
    claim = node_claim("default-smol", ready=False)
    claim["status"]["conditions"][0] |= {"type": "Launched", "reason": reason, "message": message}
    return claim


def reason_of(claim: Manifest) -> str | None:
    found = of_claims([claim], (), "default-smol", 1, ["a"])
    return found.reason if found else None


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        ("SkuMaintenance", "none today", "SkuMaintenance"),
        ("LaunchFailed", "nothing that we know", None),
        ("LaunchFailed", "insufficient capacity in eu-1", "InsufficientCapacity"),
    ],
    ids=["a reason of the provider's own is kept", "a state is no reason", "a state with words that are known"],
)
def test_the_reason_of_a_claim_that_is_not_launched(reason: str, message: str, told: str | None) -> None:
    assert reason_of(not_launched(reason, message)) == told
