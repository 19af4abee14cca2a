"""Plans with round numbers, for tests of what is made of a plan: the planner's own arithmetic has its own tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from kaito_ray.api.status import MemoryParts
from kaito_ray.api.workspace import Workspace
from kaito_ray.catalog.gpus import Machine, machine
from kaito_ray.catalog.load import find
from kaito_ray.estimator.options import ServingOptions
from kaito_ray.estimator.plan import ServingPlan, plan_serving
from kaito_ray.render.inputs import NodeClassRef, ServingInputs
from kaito_ray.render.template import Machines, TemplateInputs
from kaito_ray.testing.builders import Manifest, workspace

GIB: Final = 2**30
IMAGE: Final = "registry.example.com/worker:1"
LAPTOP: Final = Machine(instance_type="local", provider="byo", device="cpu", cpus=4.0, memory_bytes=16 * GIB)


def cpu_plan(preset: str = "smollm2-135m-instruct") -> ServingPlan:
    """Return a plan for a laptop without a GPU."""
    planned = plan_serving(find(preset), LAPTOP, ServingOptions(context_length_tokens=2048))
    return replace(planned, memory=_memory(16 * GIB), concurrent_sequences=8)


def gpu_plan(preset: str = "phi-4", instance_type: str = "Standard_NC48ads_A100_v4", **changes: Any) -> ServingPlan:
    """Return a plan for one machine with two GPUs, the model split over both."""
    found = machine(instance_type)
    if found is None:
        raise ValueError(f"no machine is called {instance_type}")
    planned = plan_serving(find(preset), found, ServingOptions(context_length_tokens=8192))
    fixed = {
        "memory": _memory(80 * GIB),
        "memory_utilization": 0.9,
        "concurrent_sequences": 8,
        "nodes": 1,
        "tensor_parallel": 2,
        "pipeline_parallel": 1,
        "data_parallel": 1,
    }
    return replace(planned, **{**fixed, **changes})


def inputs(manifest: Manifest | None = None, plan: ServingPlan | None = None, **changes: Any) -> ServingInputs:
    """Return what manifests are rendered from; by default the smallest Workspace on a laptop."""
    chosen = plan or cpu_plan()
    read = Workspace.from_wire(manifest or workspace(metadata={"uid": "uid-1"}))
    made = ServingInputs(
        workspace=read,
        plan=chosen,
        image=IMAGE,
        node_class=NodeClassRef("karpenter.example.com", "ExampleNodeClass", "default"),
        instance_types=(chosen.machine.instance_type,),
    )
    return replace(made, **changes)


def template_inputs(manifest: Manifest, **changes: Any) -> TemplateInputs:
    """Return what the manifests of a pod of one's own are rendered from."""
    read = Workspace.from_wire(manifest)
    made = TemplateInputs(
        workspace=read,
        plan=Machines(machine("Standard_NC24ads_A100_v4") or LAPTOP, read.resource.count),
        node_class=NodeClassRef("karpenter.example.com", "ExampleNodeClass", "default"),
        instance_types=("Standard_NC24ads_A100_v4",),
    )
    return replace(made, **changes)


def _memory(total_bytes: int) -> MemoryParts:
    return MemoryParts(
        total_bytes=total_bytes, weights_bytes=total_bytes // 4, kv_cache_bytes=2 * GIB, overhead_bytes=GIB
    )
