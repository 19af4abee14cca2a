"""The API group is one setting of a process: the CRD, the kind that is read and written, and owners follow it."""

import os
import subprocess
import sys

import pytest

SAID = """
from kaito_ray.api.crd import crd
from kaito_ray.controller.webhook import configuration
from kaito_ray.kube.cluster import WORKSPACES
from kaito_ray.render.meta import child_meta
from kaito_ray.api.workspace import Workspace
from kaito_ray.testing.builders import workspace
print(crd()["spec"]["group"], WORKSPACES.group, configuration({})["webhooks"][0]["rules"][0]["apiGroups"][0])
print(child_meta(Workspace.from_wire(workspace()), "child")["ownerReferences"][0]["apiVersion"])
"""


@pytest.mark.parametrize("group", ["kaito.sh", "ray.kaito.sh"])
def test_everything_follows_the_setting(group: str) -> None:
    environment = {**os.environ, "KAITO_RAY_API_GROUP": group}
    done = subprocess.run([sys.executable, "-c", SAID], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [group, group, group, f"{group}/v1beta1"]
