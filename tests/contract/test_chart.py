"""The chart renders by Helm's own engine into what Kubernetes accepts and what a platform team would let in."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmRenderError, HelmValuesError

from kaito_ray.api.crd import crd
from kaito_ray.controller.settings import from_arguments
from kaito_ray.controller.webhook import configuration
from kaito_ray.local.apiserver.cel import run as evaluate
from tests.chart import CHART, EVERYWHERE, NAMESPACE, Manifest, one, render

POLICIES = {"team-a": {"instanceTypes": ["Standard_NC24ads_A100_v4", "Standard_NC4as_T4_v3"], "gpus": 8}}
CASES: dict[str, Manifest] = {
    "everywhere": EVERYWHERE,
    "two-replicas": {**EVERYWHERE, "replicaCount": 2, "priorityClassName": "high", "podAnnotations": {"a": "b"}},
    "roles-only": {"watchNamespaces": ["team-a", "team-b"]},
    "roles-and-machines": {"watchNamespaces": ["team-a"], "rbac": {"clusterScoped": True}},
    "monitoring": {**EVERYWHERE, "monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "prom"}}}},
    "own-nodes": {**EVERYWHERE, "provider": "aws", "provisioner": "byo", "devicePlugin": {"mode": "disabled"}},
    "gpu-provisioner": {**EVERYWHERE, "provisioner": "nodeclaim"},
    "with-redis": {
        **EVERYWHERE,
        "gcsFaultTolerance": {"redisAddress": "redis.ray:6379", "passwordSecret": {"name": "redis", "key": "pass"}},
    },
    "beside-kaito": {**EVERYWHERE, "apiGroup": "ray.kaito.sh", "dataAllow": ["data.internal", "10.0.0.0/8"]},
    "policies": {**EVERYWHERE, "policies": POLICIES},
}
CUSTOM = ("ServiceMonitor",)
each_case = pytest.mark.parametrize("case", CASES)


def pods(manifests: list[Manifest]) -> list[Manifest]:
    return [m["spec"]["template"]["spec"] for m in manifests if m["kind"] in ("Deployment", "DaemonSet")]


@each_case
def test_everything_it_renders_is_valid_for_kubernetes(case: str) -> None:
    for manifest in render(CASES[case]):
        if manifest["kind"] not in CUSTOM:
            # The newest schemas have dropped nothing that we use, and refuse unknown fields.
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@each_case
def test_helms_linter_finds_nothing(case: str) -> None:
    found = lint(CHART, CASES[case], strict=True, namespace=NAMESPACE)
    assert [m for m in found["messages"] if m["severity"] > 1] == []
    assert found["errors"] == []


@each_case
def test_every_name_is_rendered_once(case: str) -> None:
    keys = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in render(CASES[case])]
    assert len(set(keys)) == len(keys)


@each_case
def test_pods_run_without_any_privilege(case: str) -> None:
    for pod in pods(render(CASES[case])):
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {**pod.get("securityContext", {}), **security}["seccompProfile"] == {"type": "RuntimeDefault"}
            assert {"requests", "limits"} <= container["resources"].keys()
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


@each_case
def test_the_operator_is_no_root_and_writes_nowhere_but_in_memory(case: str) -> None:
    pod = one(render(CASES[case]), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [volume["emptyDir"]["medium"] for volume in pod["volumes"]] == ["Memory"]
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/tmp"}


@each_case
def test_the_operator_understands_what_it_is_told(case: str) -> None:
    values, manifests = CASES[case], render(CASES[case])
    (container,) = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    settings = from_arguments(container["args"], {})
    assert settings.namespaces == tuple(values.get("watchNamespaces", ()))
    assert settings.data_allow == tuple(values.get("dataAllow", ()))
    assert (settings.redis is None) == ("gcsFaultTolerance" not in values)
    assert (settings.provider, settings.provisioner) == (
        values.get("provider", "azure"),
        values.get("provisioner", "karpenter"),
    )
    assert settings.lease_namespace == NAMESPACE
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["health"] == settings.health_port
    if settings.webhook_service:
        service = one(manifests, "Service", settings.webhook_service.partition("/")[2])
        assert ports[service["spec"]["ports"][0]["targetPort"]] == settings.webhook_port
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert {probe["port"] for probe in probes} <= ports.keys()
    assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]


@each_case
def test_its_policy_lets_in_every_port_and_no_other(case: str) -> None:
    manifests = render(CASES[case])
    (container,) = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    (rule,) = one(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == {port["name"] for port in container["ports"]}


def test_the_crd_is_kept_and_is_the_one_of_the_models_in_either_group() -> None:
    for group in ("kaito.sh", "ray.kaito.sh"):
        found = one(render({**EVERYWHERE, "apiGroup": group}), "CustomResourceDefinition")
        assert found == crd(group)
        assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_webhook_is_the_operators_own_and_cannot_hold_up_a_deletion() -> None:
    found = one(render(EVERYWHERE), "ValidatingWebhookConfiguration")
    client = found["webhooks"][0]["clientConfig"]
    assert found["metadata"]["name"] == configuration({})["metadata"]["name"]
    assert found["webhooks"] == configuration(client)["webhooks"]
    (hook,) = found["webhooks"]
    assert hook["failurePolicy"] == "Fail"
    assert "DELETE" not in hook["rules"][0]["operations"]
    leaving = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert evaluate(hook["matchConditions"][0]["expression"], {"object": leaving}) is False
    assert evaluate(hook["matchConditions"][0]["expression"], {"object": {"metadata": {}}}) is True


def test_with_namespaces_only_roles_are_rendered() -> None:
    manifests = render(CASES["roles-only"])
    kinds = {m["kind"] for m in manifests}
    assert not {"ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration"} & kinds
    assert {m["metadata"]["namespace"] for m in manifests if m["kind"] == "Role"} == {NAMESPACE, "team-a", "team-b"}


def test_the_cluster_role_of_a_namespaced_operator_has_no_kind_of_a_namespace() -> None:
    found = one(render(CASES["roles-and-machines"]), "ClusterRole")
    resources = {resource for rule in found["rules"] for resource in rule["resources"]}
    assert resources == {
        *("nodes", "nodepools", "nodeclaims"),
        *("customresourcedefinitions", "validatingwebhookconfigurations"),
    }


def test_rights_on_all_secrets_must_be_asked_for() -> None:
    with Chart.load(CHART) as chart, pytest.raises(HelmRenderError, match=r"rbac\.clusterSecrets: true"):
        chart.render(values={}, name="kaito-ray")


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 2},
        {"apiGroup": "example.com"},
        {"provisioner": "magic"},
        {"watchNamespaces": "team-a"},
        {"policies": {"team-a": {"instanceTypes": ["it's"]}}},
        {"policies": {"team-a": {"gpus": -1}}},
        {"devicePlugin": {"mode": True}},
        {"webhook": {"port": 443}},
    ],
    ids=str,
)
def test_values_that_mean_nothing_are_refused(wrong: Manifest) -> None:
    with Chart.load(CHART) as chart, pytest.raises(HelmValuesError):
        chart.render(values={**EVERYWHERE, **wrong}, name="kaito-ray")


def test_the_schema_knows_every_value_and_no_other() -> None:
    def paths(schema: Manifest, known: Manifest, values: Manifest, path: str = "") -> None:
        properties = schema.get("properties")
        if properties is None:
            return
        assert values.keys() <= properties.keys(), path
        for key, value in values.items():
            child = properties[key]
            child = known[child["$ref"].rpartition("/")[2]] if "$ref" in child else child
            if isinstance(value, dict):
                paths(child, known, value, f"{path}.{key}")

    with Chart.load(CHART) as chart:
        assert chart.schema is not None
        paths(chart.schema, chart.schema["definitions"], chart.values)
        assert chart.schema["properties"].keys() - {"global"} == chart.values.keys()


@pytest.mark.parametrize(
    ("resource", "admitted"),
    [
        ({"instanceType": "Standard_NC4as_T4_v3"}, True),
        ({"instanceTypes": ["Standard_NC4as_T4_v3", "Standard_NC24ads_A100_v4"]}, True),
        ({"instanceType": "Standard_ND96isr_H100_v5"}, False),
        ({"instanceType": "Standard_NC4as_T4_v3", "instanceTypes": ["Standard_ND96isr_H100_v5"]}, False),
        ({}, False),
    ],
)
def test_a_namespace_gets_the_types_it_may_use(resource: Manifest, admitted: bool) -> None:
    spec = one(render(CASES["policies"]), "ValidatingAdmissionPolicy")["spec"]
    known: dict[str, Any] = {"object": {"resource": resource}}
    known["variables"] = {v["name"]: evaluate(v["expression"], known) for v in spec["variables"]}
    assert evaluate(spec["validations"][0]["expression"], known) is admitted
    binding = one(render(CASES["policies"]), "ValidatingAdmissionPolicyBinding")["spec"]
    assert binding["policyName"] == "team-a.kaito-ray.policies.kaito-ray"
    assert binding["matchResources"]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "team-a"}


def test_a_namespaces_gpus_are_a_quota() -> None:
    quota = one(render(CASES["policies"]), "ResourceQuota")
    assert (quota["metadata"]["namespace"], quota["spec"]["hard"]) == ("team-a", {"requests.nvidia.com/gpu": "8"})


def test_a_disruption_budget_needs_a_second_replica() -> None:
    assert one(render(CASES["two-replicas"]), "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    assert "PodDisruptionBudget" not in {m["kind"] for m in render(EVERYWHERE)}


def test_the_version_is_the_packages() -> None:
    from kaito_ray import __version__

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
