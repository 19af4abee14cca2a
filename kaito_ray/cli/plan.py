"""`kaito-ray plan`: what a model needs, with every choice explained. No cluster is asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from kaito_ray.cli.options import ManifestOption, Output, OutputOption
from kaito_ray.errors import DoesNotFit, UnsupportedGPU, UserError

if TYPE_CHECKING:
    from kaito_ray.api.workspace import Workspace
    from kaito_ray.catalog.gpus import Machine
    from kaito_ray.catalog.models import ModelPreset
    from kaito_ray.estimator.plan import ServingOptions, ServingPlan

COLUMNS = ("INSTANCE", "GPU", "NODES", "TP", "PP", "DP", "CONTEXT", "SEQUENCES")


def plan(
    *,
    filename: ManifestOption = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="A preset, instead of a file.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANCE", show_default="this machine", help="An instance type; `local` is this machine."
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Compare every machine of azure, aws or arc that the model fits."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=1, metavar="TOKENS", show_default="as long as it fits", help="Longest prompt plus answer."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print how a model would be placed on a machine, and why.

    With a file, the model is that of the Workspace in it, and so is the machine unless --gpu or --provider is given.
    """
    from kaito_ray.catalog.load import find
    from kaito_ray.cli import offers
    from kaito_ray.cli.console import print_json, print_table
    from kaito_ray.estimator.plan import ServingOptions, plan_serving

    if (filename is None) == (model is None):
        raise UserError("--filename, --model: name a manifest or a model, one of the two")
    if filename:
        from kaito_ray.cli.manifests import only_workspace

        workspace = only_workspace(filename)
        model = _model(workspace)
        gpu = gpu or (None if provider else workspace.resource.instance_type)
    preset = find(model or "", field="--model")
    options = ServingOptions(context_length_tokens=context)
    if provider:
        plans = compare(preset, offers.of_provider(provider), options)
    else:
        plans = [plan_serving(preset, offers.named(gpu or offers.LOCAL), options)]
    if output is Output.JSON:
        print_json([p.to_status().to_wire() for p in plans])
    elif provider:
        print_table(COLUMNS, (_row(p) for p in plans))
    else:
        print("\n".join(_lines(plans[0])))


def compare(preset: ModelPreset, machines: Sequence[Machine], options: ServingOptions) -> list[ServingPlan]:
    """Return a plan for each machine that the model fits, the smallest total of GPU memory first.

    Raises:
        DoesNotFit: it fits none.
    """
    from kaito_ray.estimator.plan import plan_serving

    plans = []
    for machine in machines:
        with suppress(DoesNotFit, UnsupportedGPU):
            plans.append(plan_serving(preset, machine, options))
    if not plans:
        raise DoesNotFit(f"{preset.name} fits none of these {len(machines)} machines; --gpu NAME says why for one")
    return sorted(plans, key=lambda p: (p.gpus * p.machine.gpu_memory_bytes, p.machine.instance_type))


def _model(workspace: Workspace) -> str:
    if workspace.preset is None:
        raise UserError("inference.preset: this Workspace brings its own pod template, so there is nothing to plan")
    return workspace.preset.name


def _row(plan: ServingPlan) -> tuple[str, ...]:
    return (
        plan.machine.instance_type,
        plan.machine.gpu,
        str(plan.nodes),
        str(plan.tensor_parallel),
        str(plan.pipeline_parallel),
        str(plan.data_parallel),
        str(plan.context_length_tokens),
        str(plan.concurrent_sequences),
    )


def _lines(plan: ServingPlan) -> list[str]:
    memory = plan.memory
    parallel = f"tensor {plan.tensor_parallel}, pipeline {plan.pipeline_parallel}, data {plan.data_parallel}"
    facts = {
        "model": plan.preset.name,
        "machine": f"{plan.nodes} x {plan.machine.instance_type} ({plan.machine.gpu})",
        "parallel": parallel,
        "dtype": plan.dtype,
        "context": f"{plan.context_length_tokens} tokens, {plan.concurrent_sequences} such sequences at once",
        "memory": (
            f"{_gib(memory.total_bytes)} per device: {_gib(memory.weights_bytes)} weights, "
            f"{_gib(memory.kv_cache_bytes)} KV cache, {_gib(memory.overhead_bytes)} overhead"
        ),
    }
    return [*(f"{name:<10}{fact}" for name, fact in facts.items()), "why", *(f"  - {line}" for line in plan.why)]


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
