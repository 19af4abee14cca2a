"""The manifests of KAITO's quick start, as they stand in its documentation."""

from typing import Any

import pytest
import yaml

from kaito_ray.api.admission import refusals, warnings
from kaito_ray.catalog.load import presets

SERVING = """
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata: {name: workspace-phi-3-mini}
resource:
  instanceType: "Standard_NC6s_v3"
  labelSelector: {matchLabels: {apps: phi-3}}
inference:
  preset: {name: phi-3-mini-4k-instruct}
"""
SERVING_WITH_ADAPTER = """
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata: {name: workspace-phi-3-mini-adapter}
resource:
  instanceType: "Standard_NC6s_v3"
  labelSelector: {matchLabels: {apps: phi-3-adapter}}
inference:
  preset: {name: phi-3-mini-128k-instruct}
  adapters:
    - source: {name: "phi-3-adapter", image: "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"}
      strength: "1.0"
"""
TUNING = """
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata: {name: NAME}
resource:
  instanceType: "Standard_NC6s_v3"
  labelSelector: {matchLabels: {app: phi-3-adapter}}
tuning:
  preset: {name: PRESET}
  method: qlora
  input:
    urls:
      - "https://huggingface.co/datasets/philschmid/dolly-15k-oai-style/resolve/main/data/train-00000-of-00001-54e3756291ca09c6.parquet?download=true"
  output:
    image: "ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE:0.0.1"
    imagePushSecret: ACR_REGISTRY_SECRET_HERE
"""
MANIFESTS = {
    "serving": SERVING,
    "serving with an adapter": SERVING_WITH_ADAPTER,
    "tuning": TUNING.replace("NAME", "workspace-phi-3-mini", 1).replace("PRESET", "phi-3-mini-4k-instruct"),
    "tuning 128k": TUNING.replace("NAME", "workspace-phi-3-mini-adapter", 1).replace(
        "PRESET", "phi-3-mini-128k-instruct"
    ),
}
PLACEHOLDERS = {
    "ACR_REPO_HERE": "acme",
    "ADAPTER_HERE": "adapter",
    "IMAGE_NAME_HERE": "image",
    "ACR_REGISTRY_SECRET_HERE": "acme-registry",
}
KNOWN = frozenset(name for preset in presets().values() for name in preset.names)
each = pytest.mark.parametrize("name", MANIFESTS)


def read(name: str, *, filled: bool) -> dict[str, Any]:
    text = MANIFESTS[name]
    for placeholder, value in PLACEHOLDERS.items() if filled else ():
        text = text.replace(placeholder, value)
    manifest: dict[str, Any] = yaml.safe_load(text)
    return manifest


@each
def test_is_admitted_once_its_placeholders_are_replaced(name: str) -> None:
    assert refusals(read(name, filled=True), presets=KNOWN) == []


@each
def test_is_refused_by_the_name_of_each_placeholder(name: str) -> None:
    told = " ".join(map(str, refusals(read(name, filled=False), presets=KNOWN)))
    assert {p for p in PLACEHOLDERS if p in MANIFESTS[name]} == {p for p in PLACEHOLDERS if p in told}


@each
def test_its_retired_machine_is_a_warning(name: str) -> None:
    told = warnings(read(name, filled=True), retired={"Standard_NC6s_v3": "Standard_NV36ads_A10_v5"})
    assert [line.partition(":")[0] for line in told] == ["resource.instanceType"]


def test_two_of_them_share_a_name_so_the_second_is_refused_with_the_remedy() -> None:
    (fault,) = refusals(read("tuning", filled=True), read("serving", filled=True), presets=KNOWN)
    assert "kubectl delete workspace workspace-phi-3-mini" in str(fault)
