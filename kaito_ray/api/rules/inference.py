"""`inference`: the model, its adapters, its options."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kaito_ray.api import names
from kaito_ray.api.rules import syntax
from kaito_ray.api.workspace import AdapterSpec, DataSource, InferenceSpec, PresetOptions, PresetSpec, Workspace
from kaito_ray.errors import InvalidWorkspace, UnknownPreset


def faults(workspace: Workspace, presets: Collection[str]) -> Iterator[InvalidWorkspace]:
    """Yield what is wrong with `inference`; `presets` are the known names in lower case, none to skip that check."""
    spec = workspace.inference
    if spec is None:
        return
    if (spec.preset is None) == (spec.template is None):
        yield InvalidWorkspace("inference", "set exactly one of preset and template")
    if spec.preset is not None:
        yield from preset_faults(spec.preset, "inference.preset", presets)
    elif spec.template is not None:
        yield from _template_faults(workspace, spec)
    for field, name in (("config", spec.config), ("apiKeysSecret", spec.api_keys_secret)):
        if name is not None and (problem := syntax.dns_subdomain(name)):
            yield InvalidWorkspace(f"inference.{field}", problem)
    scaling = spec.autoscaling
    if scaling and scaling.min_replicas > scaling.max_replicas:
        yield InvalidWorkspace(
            "inference.autoscaling.minReplicas",
            f"{scaling.min_replicas} is more than maxReplicas ({scaling.max_replicas}); lower it or raise maxReplicas",
        )
    yield from _adapters_faults(workspace.metadata.name, spec)


def _template_faults(workspace: Workspace, spec: InferenceSpec) -> Iterator[InvalidWorkspace]:
    """Yield what is wrong with a pod of the person's own; the API server judges the rest when it is created."""
    pod = (spec.template or {}).get("spec")
    if not (isinstance(pod, dict) and pod.get("containers")):
        yield InvalidWorkspace("inference.template.spec.containers", "a pod needs a container: its name and its image")
    unused = ("config", "adapters", "autoscaling", "apiKeysSecret", "limits")
    for field, given in zip(
        unused, (spec.config, spec.adapters, spec.autoscaling, spec.api_keys_secret, spec.limits), strict=True
    ):
        if given:
            yield InvalidWorkspace(
                f"inference.{field}",
                "it is for models that are served by inference.preset; put it into the pod, or remove it",
            )
    if names.WORKER_IMAGE_ANNOTATION in workspace.metadata.annotations:
        yield InvalidWorkspace(
            f"metadata.annotations[{names.WORKER_IMAGE_ANNOTATION}]",
            "there is no Ray pod; change the image in the template",
        )


def preset_faults(preset: PresetSpec, field: str, presets: Collection[str]) -> Iterator[InvalidWorkspace]:
    """Yield what is wrong with the model's name and options, of inference and of tuning alike."""
    if "/" in preset.name:
        # Whether the hub has it is asked later, by the operator: admission waits for nobody.
        if problem := syntax.hub_model(preset.name):
            yield InvalidWorkspace(f"{field}.name", problem)
    elif presets and preset.name.lower() not in presets:
        yield UnknownPreset(f"{field}.name", preset.name, sorted(presets))
    options = preset.preset_options
    if options is None:
        return
    yield from _image_faults(preset, options, f"{field}.presetOptions")
    if options.model_access_secret is not None and (problem := syntax.dns_subdomain(options.model_access_secret)):
        yield InvalidWorkspace(f"{field}.presetOptions.modelAccessSecret", problem)


def _image_faults(preset: PresetSpec, options: PresetOptions, field: str) -> Iterator[InvalidWorkspace]:
    """Yield what is wrong with an image of weights."""
    if options.image_pull_secrets and not options.image:
        yield InvalidWorkspace(f"{field}.imagePullSecrets", "nothing is pulled; set image or remove it")
    for index, name in enumerate(options.image_pull_secrets):
        if problem := syntax.dns_subdomain(name):
            yield InvalidWorkspace(f"{field}.imagePullSecrets[{index}]", problem)
    if not options.image:
        return
    if field.startswith("tuning."):
        yield InvalidWorkspace(f"{field}.image", "a model to tune comes from the hub; remove it")
    elif problem := syntax.image(options.image):
        yield InvalidWorkspace(f"{field}.image", problem)
    if preset.revision:
        yield InvalidWorkspace(
            f"{field}.image", "revision is for the hub; name the image by digest instead, and remove revision"
        )
    if preset.trust_remote_code:
        yield InvalidWorkspace(
            f"{field}.image", "no code is taken out of an image; remove trustRemoteCode, or use the hub"
        )


def _adapters_faults(workspace: str, spec: InferenceSpec) -> Iterator[InvalidWorkspace]:
    seen: set[str] = set()
    if spec.preset is not None:
        seen.add(spec.preset.name.lower().rpartition("/")[2])
    for index, adapter in enumerate(spec.adapters):
        field = f"inference.adapters[{index}]"
        yield from _strength_faults(adapter, field)
        if adapter.source is None:
            yield InvalidWorkspace(f"{field}.source", "an adapter needs a source: its name, and an image or a volume")
            continue
        source = adapter.source
        yield from _source_faults(source, f"{field}.source", workspace)
        if not source.name:
            yield InvalidWorkspace(f"{field}.source.name", "an adapter needs a name: clients ask for it as `model`")
        elif problem := syntax.dns_subdomain(source.name):
            yield InvalidWorkspace(f"{field}.source.name", problem)
        elif source.name in seen:
            yield InvalidWorkspace(
                f"{field}.source.name",
                f"{source.name!r} is the name of the model or of another adapter; choose another",
            )
        else:
            seen.add(source.name)


def _strength_faults(adapter: AdapterSpec, field: str) -> Iterator[InvalidWorkspace]:
    if adapter.strength is None:
        return
    try:
        valid = 0.0 <= float(adapter.strength) <= 1.0
    except ValueError:
        valid = False
    if not valid:
        yield InvalidWorkspace(f"{field}.strength", f'{adapter.strength!r} is not a number from "0.0" to "1.0"')


def _source_faults(source: DataSource, field: str, workspace: str) -> Iterator[InvalidWorkspace]:
    if source.urls:
        yield InvalidWorkspace(
            f"{field}.urls", "an adapter cannot come from a URL; use image, volumeSource or workspace"
        )
    given = [
        name
        for name, value in (
            ("image", source.image),
            ("volumeSource", source.volume_source),
            ("workspace", source.workspace),
        )
        if value
    ]
    if len(given) != 1 and not source.urls:
        found = f"found {' and '.join(given)}" if given else "found none"
        yield InvalidWorkspace(field, f"set exactly one of image, volumeSource and workspace; {found}")
    if source.image and (problem := syntax.image(source.image)):
        yield InvalidWorkspace(f"{field}.image", problem)
    if source.workspace and (problem := syntax.dns_label(source.workspace)):
        yield InvalidWorkspace(f"{field}.workspace", problem)
    elif source.workspace == workspace:
        yield InvalidWorkspace(f"{field}.workspace", "it names this Workspace itself; name the tuning Workspace")
    yield from pull_secret_faults(source, field)


def pull_secret_faults(source: DataSource, field: str) -> Iterator[InvalidWorkspace]:
    """Yield what is wrong with `imagePullSecrets`."""
    if source.image_pull_secrets and not source.image:
        yield InvalidWorkspace(f"{field}.imagePullSecrets", "nothing is pulled; set image or remove it")
    for index, name in enumerate(source.image_pull_secrets):
        if problem := syntax.dns_subdomain(name):
            yield InvalidWorkspace(f"{field}.imagePullSecrets[{index}]", problem)
