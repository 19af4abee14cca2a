from kaito_ray.kube.cluster import PODS, SERVICES
from kaito_ray.local import services
from kaito_ray.local.objects import Objects
from kaito_ray.testing.fake_cluster import FakeCluster
from tests.unit.local.manifests import pod

SERVING = {"kaito.sh/workspace": "phi", "ray.io/serve": "true"}
PORT = {"ports": [{"name": "serve", "containerPort": 8000, "hostPort": 20004}]}


def service(target="serve", selector=SERVING):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "phi", "namespace": "default"},
        "spec": {"selector": selector, "ports": [{"port": 80, "targetPort": target}]},
    }


def test_a_ready_pod_is_published_on_loopback():
    found = services.load_balancer(service(), [pod(labels=SERVING, **PORT)])

    assert found == {"ingress": [{"ip": "127.0.0.1", "ports": [{"port": 20004, "protocol": "TCP"}]}]}


def test_a_port_may_be_given_by_number():
    assert (
        services.load_balancer(service(8000), [pod(labels=SERVING, **PORT)])["ingress"][0]["ports"][0]["port"] == 20004
    )


def test_nothing_is_published_without_a_matching_pod():
    other_namespace = pod(labels=SERVING, **PORT)
    other_namespace["metadata"]["namespace"] = "elsewhere"

    assert services.load_balancer(service(), []) == {}
    assert services.load_balancer(service(), [pod(labels={**SERVING, "ray.io/serve": "false"}, **PORT)]) == {}
    assert services.load_balancer(service(), [other_namespace]) == {}
    assert services.load_balancer(service("grpc"), [pod(labels=SERVING, **PORT)]) == {}


def test_of_two_ready_pods_the_younger_is_published():
    old = pod("a", labels=SERVING, **PORT)
    young = pod("b", labels=SERVING, ports=[{"name": "serve", "containerPort": 8000, "hostPort": 20164}])
    young["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"

    assert services.load_balancer(service(), [young, old])["ingress"][0]["ports"][0]["port"] == 20164


async def test_an_address_goes_when_its_pod_is_no_longer_ready(follow):
    cluster = FakeCluster()
    await cluster.create(SERVICES, service())
    made = await cluster.create(PODS, pod(labels=SERVING, **PORT))
    objects = await follow(cluster, PODS, SERVICES)
    await services.publish(objects)
    assert (await cluster.get(SERVICES, "phi", "default"))["status"]["loadBalancer"]["ingress"]

    await objects.replace_status(PODS, made, {"conditions": [{"type": "Ready", "status": "False"}]})
    await services.publish(objects)

    assert (await cluster.get(SERVICES, "phi", "default"))["status"]["loadBalancer"] == {}


async def test_nothing_is_written_when_nothing_changed(follow):
    cluster = FakeCluster()
    await cluster.create(SERVICES, service())
    await cluster.create(PODS, pod(labels=SERVING, **PORT))
    objects: Objects = await follow(cluster, PODS, SERVICES)
    await services.publish(objects)
    before = len(cluster.writes)

    await services.publish(objects)

    assert len(cluster.writes) == before
