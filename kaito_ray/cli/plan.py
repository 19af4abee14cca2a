"""`kaito-ray plan`: what a model needs, with every choice explained. No cluster is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaito_ray.cli.options import MANIFEST, GpuOption, Output, OutputOption
from kaito_ray.errors import UserError

if TYPE_CHECKING:
    from kaito_ray.cli.foresight import Foreseen
    from kaito_ray.controller.tuning_plan import PlannedTuning
    from kaito_ray.estimator.plan import ServingPlan

COLUMNS = ("INSTANCE", "GPU", "NODES", "TP", "PP", "DP", "CONTEXT", "SEQUENCES", "PRICE/H")


def plan(
    filename: Annotated[Path | None, MANIFEST] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="A preset, a hub's org/model, or a directory with config.json and weights, instead of a file.",
        ),
    ] = None,
    gpu: GpuOption = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Compare every machine of azure, aws or arc that the model fits, with --model."
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="TOKENS", show_default="as long as it fits", help="Longest prompt plus answer, with --model."
        ),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Your prices for --provider: a YAML file of instance types and what an hour costs."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print how a model would be placed on a machine, and why.

    With a file, it is what the operator would plan for the Workspace in it.
    """
    from kaito_ray.cli.console import print_json, print_table
    from kaito_ray.controller.tuning_plan import PlannedTuning

    if (filename is None) == (model is None):
        raise UserError("--filename, --model: name a manifest or a model, one of the two")
    if provider and gpu:
        raise UserError("--provider, --gpu: compare the machines of a provider, or name one; not both")
    if filename and (context or provider):
        raise UserError("--context, --provider: only with --model; a manifest says both itself")
    if prices and not (provider or gpu):
        raise UserError("--prices: only with --provider, or with a GPU, whose machines it prices")
    if filename:
        foreseen = _of_file(filename, gpu)
        if isinstance(foreseen.planned, PlannedTuning):
            _print_tuning(foreseen.planned, output)
            return
        plans: Sequence[ServingPlan] = [foreseen.plan]
        left_out: Sequence[str] = ()
    else:
        plans, left_out = _of_model(model or "", gpu=gpu, provider=provider, context=context, prices=prices)
    if output is Output.JSON:
        print_json([p.to_status().to_wire() for p in plans])
        return
    if len(plans) > 1:
        print_table(COLUMNS, (_row(p) for p in plans))
        print()
    print("\n".join(_lines(plans[0])))
    if left_out:
        print("\n".join(["left out", *(f"  - {line}" for line in left_out)]))


def _of_model(
    model: str, *, gpu: str | None, provider: str | None, context: int | None, prices: Path | None
) -> tuple[Sequence[ServingPlan], Sequence[str]]:
    """Return the plans, the best first, and why machines that were compared are not among them."""
    from kaito_ray.catalog.gpus import with_prices
    from kaito_ray.catalog.prices import read_prices
    from kaito_ray.cli import offers
    from kaito_ray.cli.own_model import model_named
    from kaito_ray.estimator.plan import ServingOptions, explained, left_out, plan_serving

    preset = model_named(model, "--model")
    options = ServingOptions(context_length_tokens=context)
    offered = offers.of_provider(provider) if provider else offers.of_gpu(gpu) if gpu else ()
    if offered:
        priced = with_prices(offered, read_prices(prices)) if prices else offered
        if not provider:
            options = offers.on(priced[0], options)
        return explained(preset, priced, options), left_out(preset, priced, options)
    if prices:
        raise UserError(
            "--prices: it prices the machines of a --provider or of a GPU; one machine has nothing to compare"
        )
    machine = offers.named(gpu or offers.LOCAL)
    found = plan_serving(preset, machine, offers.on(machine, options))
    replaced = gpu is not None and gpu.lower() != machine.instance_type.lower()
    return [replace(found, requested_instance_type=gpu) if replaced else found], ()


def _of_file(path: Path, gpu: str | None) -> Foreseen:
    from kaito_ray.cli.foresight import foresee
    from kaito_ray.cli.manifests import read

    found = read(path)
    if len(found.workspaces) > 1:
        raise UserError(f"--filename: {path} holds {len(found.workspaces)} Workspaces; a plan is for one")
    return foresee(found.workspaces[0], found.config_maps, gpu=gpu)


def _print_tuning(planned: PlannedTuning, output: Output) -> None:
    from kaito_ray.cli.console import print_json
    from kaito_ray.controller.tuning_run import plan_status

    plan, status = planned.plan, plan_status(planned)
    if output is Output.JSON:
        print_json([status.to_wire()])
        return
    facts = {
        "model": plan.preset.name,
        "machine": f"{plan.nodes} x {plan.machine.instance_type} ({plan.machine.gpu})",
        **({"instead of": status.requested_instance_type} if status.requested_instance_type else {}),
        "workers": str(plan.workers),
        "dtype": status.dtype,
        "examples": f"up to {status.context_length_tokens} tokens, {status.concurrent_sequences} at once",
        "memory": (
            f"{_gib(plan.memory.total_bytes)} per worker: {_gib(plan.memory.weights_bytes)} weights, "
            f"{_gib(plan.memory.overhead_bytes)} adapter, activations and runtime"
        ),
    }
    print("\n".join([*(f"{name:<12}{fact}" for name, fact in facts.items()), "why", *(f"  - {w}" for w in plan.why)]))


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
        "" if plan.price_per_hour is None else f"{plan.price_per_hour:.2f}",
    )


def _lines(plan: ServingPlan) -> list[str]:
    memory = plan.memory
    parallel = f"tensor {plan.tensor_parallel}, pipeline {plan.pipeline_parallel}, data {plan.data_parallel}"
    facts = {
        "model": plan.preset.name,
        **({"weights": f"of the image {plan.preset.source.image}"} if plan.preset.source.image else {}),
        "machine": f"{plan.nodes} x {plan.machine.instance_type} ({plan.machine.gpu})",
        **({"instead of": plan.requested_instance_type} if plan.requested_instance_type else {}),
        "parallel": parallel,
        "dtype": plan.dtype,
        "context": f"{plan.context_length_tokens} tokens, {plan.concurrent_sequences} such sequences at once",
        "memory": (
            f"{_gib(memory.total_bytes)} per device: {_gib(memory.weights_bytes)} weights, "
            f"{_gib(memory.kv_cache_bytes)} KV cache, {_gib(memory.overhead_bytes)} overhead"
        ),
    }
    return [*(f"{name:<12}{fact}" for name, fact in facts.items()), "why", *(f"  - {line}" for line in plan.why)]


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
