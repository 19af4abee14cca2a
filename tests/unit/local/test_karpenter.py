import asyncio

import pytest
import pytest_asyncio

from kaito_ray.kube.cluster import EVENTS, NODE_CLAIMS, NODE_POOLS, NODES
from kaito_ray.local import karpenter
from kaito_ray.local.karpenter import Karpenter
from kaito_ray.testing.fake_cluster import FakeCluster

INSTANCE_TYPE = "node.kubernetes.io/instance-type"


def pool(*requirements, name="default-phi"):
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {
            "template": {
                "metadata": {"labels": {"kaito.sh/workspace": "phi"}},
                "spec": {
                    "nodeClassRef": {"group": "local.kaito.sh", "kind": "Machine", "name": "local"},
                    "expireAfter": "Never",
                    "requirements": list(requirements),
                },
            }
        },
    }


def requires(operator, *values):
    return {"key": INSTANCE_TYPE, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("requirement", "admitted"),
    [
        (requires("In", "local"), True),
        (requires("In", "Standard_NC24ads_A100_v4"), False),
        (requires("NotIn", "local"), False),
        (requires("NotIn", "Standard_NC24ads_A100_v4"), True),
        (requires("Exists"), True),
        (requires("DoesNotExist"), False),
        ({"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}, True),
    ],
)
def test_which_pools_this_machine_meets(requirement, admitted):
    assert karpenter.admits({"requirements": [requirement]}) is admitted


def test_the_capacity_is_what_the_machine_has_and_no_gpu_is_claimed(tmp_path):
    has = karpenter.capacity(tmp_path)

    assert has["nvidia.com/gpu"] == "0"
    assert int(has["memory"].removesuffix("Ki")) > 2**20
    assert {"cpu", "memory", "pods", "ephemeral-storage"} <= set(has)


def test_the_limits_of_a_container_bound_the_capacity(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    monkeypatch.setattr(karpenter, "_CGROUP", tmp_path)

    has = karpenter.capacity(tmp_path)

    assert (has["cpu"], has["memory"]) == ("500m", f"{2**20}Ki")


def test_the_nodes_name_is_one_that_kubernetes_takes(monkeypatch):
    monkeypatch.setattr(karpenter.platform, "node", lambda: "My_Laptop.local")

    assert karpenter.node_name() == "my-laptop"


@pytest_asyncio.fixture
async def run(follow, tmp_path):
    cluster = FakeCluster()
    objects = await follow(cluster, NODES, NODE_POOLS, NODE_CLAIMS)
    return cluster, Karpenter(objects, "this", tmp_path)


async def settle():

    for _ in range(5):
        await asyncio.sleep(0)


def true_conditions(item):
    return {c["type"] for c in item["status"]["conditions"] if c["status"] == "True"}


async def test_this_machine_is_a_ready_node(run):
    cluster, controller = run

    await controller.reconcile()

    node = await cluster.get(NODES, "this")
    assert node["metadata"]["labels"][INSTANCE_TYPE] == "local"
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "this"
    assert true_conditions(node) == {"Ready"}


async def test_a_pool_gets_one_claim_which_this_machine_meets(run):
    cluster, controller = run
    await cluster.create(NODE_POOLS, pool(requires("In", "local")))
    await settle()

    await controller.reconcile()
    await settle()
    await controller.reconcile()

    (claim,) = await cluster.list(NODE_CLAIMS)
    assert claim["metadata"]["labels"]["karpenter.sh/nodepool"] == "default-phi"
    assert claim["metadata"]["ownerReferences"][0]["kind"] == "NodePool"
    assert claim["spec"]["expireAfter"] == "Never"
    assert claim["status"]["nodeName"] == "this"
    assert true_conditions(claim) == {"Launched", "Registered", "Initialized", "Ready"}
    found = await cluster.get(NODE_POOLS, "default-phi")
    assert (found["status"]["nodes"], true_conditions(found) >= {"Ready"}) == (1, True)


async def test_a_pool_for_another_machine_gets_no_claim_and_one_event(run):
    cluster, controller = run
    await cluster.create(NODE_POOLS, pool(requires("In", "Standard_NC24ads_A100_v4")))
    await settle()

    await controller.reconcile()
    await controller.reconcile()

    assert await cluster.list(NODE_CLAIMS) == []
    (event,) = await cluster.list(EVENTS)
    assert (event["type"], event["reason"]) == ("Warning", "NoCompatibleInstanceTypes")


def claim(*requirements):
    spec = {"nodeClassRef": {"group": "g", "kind": "K", "name": "n"}, "requirements": list(requirements)}
    meta = {"name": "ws0", "finalizers": ["ray.kaito.sh/claim"]}
    return {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": meta, "spec": spec}


async def test_a_claim_without_a_pool_is_met_by_this_machine(run):
    cluster, controller = run
    await cluster.create(NODE_CLAIMS, claim(requires("In", "local")))
    await settle()

    await controller.reconcile()

    (found,) = await cluster.list(NODE_CLAIMS)
    assert found["status"]["nodeName"] == "this"
    assert true_conditions(found) == {"Launched", "Registered", "Initialized", "Ready"}


async def test_a_claim_for_another_machine_is_given_up_with_one_event(run):
    cluster, controller = run
    await cluster.create(NODE_CLAIMS, claim(requires("In", "Standard_NC24ads_A100_v4")))
    await settle()

    await controller.reconcile()
    await settle()
    await controller.reconcile()

    (found,) = await cluster.list(NODE_CLAIMS)
    assert "deletionTimestamp" in found["metadata"]
    assert "status" not in found
    (event,) = await cluster.list(EVENTS)
    assert (event["involvedObject"]["kind"], event["reason"]) == ("NodeClaim", "NoCompatibleInstanceTypes")


async def test_at_rest_nothing_is_written(run):
    cluster, controller = run
    await cluster.create(NODE_POOLS, pool(requires("In", "local")))
    await settle()
    for _ in range(2):
        await controller.reconcile()
        await settle()
    before = len(cluster.writes)

    await controller.reconcile()

    assert cluster.writes[before:] == []


async def test_the_heartbeat_is_renewed_once_it_is_old(run, monkeypatch):
    cluster, controller = run
    await controller.reconcile()
    monkeypatch.setattr(karpenter, "due", lambda *_: True)
    monkeypatch.setattr(karpenter, "timestamp", lambda: "2030-01-01T00:00:00Z")

    await controller.reconcile()

    (ready,) = (await cluster.get(NODES, "this"))["status"]["conditions"]
    assert ready["lastHeartbeatTime"] == "2030-01-01T00:00:00Z"
