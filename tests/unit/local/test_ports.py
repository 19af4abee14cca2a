import pytest

from kaito_ray.local.ports import BLOCK, NoFreePorts, RayPorts, choose


def test_every_listener_has_a_port_of_its_own_within_the_block():
    ports = RayPorts(20000)
    single = [
        getattr(ports, name)
        for name, value in vars(RayPorts).items()
        if isinstance(value, property) and isinstance(getattr(ports, name), int)
    ]
    every = [*single, *ports.replicas_http, *ports.replicas_grpc, *ports.workers]

    assert len(every) == len(set(every))
    assert set(every) <= set(ports.all())


def test_the_ports_that_a_pod_declares_go_by_kuberays_names():
    assert set(RayPorts(20000).by_container_port()) == {"gcs-server", "dashboard", "client", "metrics", "serve"}


def test_a_block_is_never_handed_out_twice():
    first = choose("home", (), busy=())
    second = choose("home", {first.base}, busy=())

    assert set(first.all()).isdisjoint(second.all())


def test_a_block_with_a_port_that_somebody_listens_on_is_passed_over():
    first = choose("home", (), busy=())

    assert choose("home", (), busy={first.serve}).base != first.base


def test_two_control_planes_begin_the_search_at_different_places():
    assert choose("/home/a/.kaito-ray", (), busy=()) != choose("/home/b/.kaito-ray", (), busy=())


def test_blocks_lie_below_the_ports_of_outgoing_connections():
    everything_up_to_there_busy = range(20000, 32768 - BLOCK + 1)

    with pytest.raises(NoFreePorts, match="ss -ltnp"):
        choose("home", (), busy=everything_up_to_there_busy)
