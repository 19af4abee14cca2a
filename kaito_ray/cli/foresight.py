"""What the operator would decide about a manifest, with no cluster at all: its own planning, on facts put together here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kaito_ray.cli import manifests, offers, own_model

if TYPE_CHECKING:
    from kaito_ray.controller.observe import Observed
    from kaito_ray.controller.planning import Planned
    from kaito_ray.controller.tuning_plan import PlannedTuning
    from kaito_ray.estimator.plan import ServingPlan
    from kaito_ray.render.template import TemplateInputs


class Provider(StrEnum):
    """Whose machines are on offer."""

    LOCAL = "local"
    AZURE = "azure"
    AWS = "aws"


@dataclass(frozen=True)
class Foreseen:
    """A Workspace as the operator would see it first, and its plan."""

    seen: Observed
    planned: Planned | PlannedTuning | TemplateInputs

    @property
    def plan(self) -> ServingPlan:
        """The plan of the model that is served.

        Raises:
            InvalidWorkspace: there is none, for a pod of the person's own is not planned.
        """
        from kaito_ray.controller.planning import Planned
        from kaito_ray.errors import InvalidWorkspace

        if not isinstance(self.planned, Planned):
            raise InvalidWorkspace(
                "inference.template", "a pod of your own is not planned; `kaito-ray render` shows what is made of it"
            )
        return self.planned.plan

    def objects(self) -> list[dict[str, Any]]:
        """Return what the operator would write, in the order in which it does."""
        from kaito_ray.controller import tuning_run
        from kaito_ray.controller.desired import desired
        from kaito_ray.controller.planning import Planned
        from kaito_ray.controller.template_run import desired_template
        from kaito_ray.controller.tuning_plan import PlannedTuning

        if isinstance(self.planned, Planned):
            return list(desired(self.planned.inputs, self.seen).values())
        if isinstance(self.planned, PlannedTuning):
            return [manifest for _, manifest in tuning_run.objects(self.seen, self.planned.inputs)]
        return list(desired_template(self.planned, self.seen).values())


def foresee(
    manifest: Mapping[str, Any],
    config_maps: Mapping[str, Mapping[str, Any]],
    *,
    gpu: str | None = None,
    provider: Provider | None = None,
    data_allow: tuple[str, ...] = (),
) -> Foreseen:
    """Return what the operator would plan for a Workspace that was just applied.

    `gpu` takes the place of the manifest's instance type; `local` is this machine. Without `provider` it is the one
    that has the instance type, and this machine where none is named. Secrets that a tuning run
    names are taken to be there.

    Raises:
        UserError: admission or the planner refuses it.
    """
    from kaito_ray.controller.observe import Observed
    from kaito_ray.controller.planning import plan
    from kaito_ray.controller.served_model import at_its_commit
    from kaito_ray.controller.settings import Settings
    from kaito_ray.controller.template_plan import plan_template
    from kaito_ray.controller.tuning_plan import plan_run, registry_secrets

    if gpu:
        manifest = _with_instance_type(manifest, None if gpu == offers.LOCAL else gpu)
        provider = provider or (Provider.LOCAL if gpu == offers.LOCAL else None)
    workspace = manifests.admitted(manifest)
    provider = provider or _provider_of(workspace.resource.instance_type)
    work = workspace.inference or workspace.tuning
    model = own_model.of_workspace(workspace.preset, f"{'inference' if workspace.inference else 'tuning'}.preset.name")
    config = work.config if work else None
    config_map = config_maps.get(config) if config else None
    seen = Observed(
        workspace=at_its_commit(workspace, model),
        manifest=dict(manifest),
        model=model,
        config=dict(config_map) if config_map else None,
        pull_secrets={name: {} for _, name in registry_secrets(workspace.tuning)} if workspace.tuning else {},
        nodes=(offers.this_node(),) if provider is Provider.LOCAL else (),
    )
    settings = Settings(provider=provider.value, data_allow=data_allow)
    if workspace.tuning is not None:
        return Foreseen(seen, plan_run(seen, settings))
    own_pod = workspace.inference is not None and workspace.inference.template is not None
    return Foreseen(seen, plan_template(seen, settings) if own_pod else plan(seen, settings))


def _with_instance_type(manifest: Mapping[str, Any], instance_type: str | None) -> dict[str, Any]:
    resource = {k: v for k, v in manifest.get("resource", {}).items() if k not in ("instanceType", "instanceTypes")}
    wanted = {"instanceType": instance_type} if instance_type else {}
    return {**manifest, "resource": {**resource, **wanted}}


def _provider_of(instance_type: str | None) -> Provider:
    """Return who has that instance type; Azure, whose planner then says what is wrong, for one that nobody has."""
    from kaito_ray.catalog.gpus import machine

    if instance_type is None:
        return Provider.LOCAL
    known = machine(instance_type)
    return Provider.AWS if known and known.provider == Provider.AWS else Provider.AZURE
