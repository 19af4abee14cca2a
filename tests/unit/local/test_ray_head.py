import pytest

from kaito_ray.local import ray_head
from kaito_ray.local.ports import RayPorts
from kaito_ray.local.processes import CLUSTERS_MARKER
from kaito_ray.local.ray_head import RayHead


@pytest.fixture
def head(tmp_path):
    return RayHead("1234-uid", tmp_path / "ray" / "default_phi-abcde", RayPorts(20000))


def options(command):
    return dict(word.removeprefix("--").split("=", 1) for word in command if "=" in word)


def test_every_listener_gets_its_own_port_and_loopback(head):
    given = options(ray_head.start_command(head, {}, cpus=2, memory_bytes=None))

    assert given["node-ip-address"] == given["dashboard-host"] == "127.0.0.1"
    assert (given["port"], given["dashboard-port"], given["metrics-export-port"]) == ("20000", "20001", "20003")


def test_the_manifests_ray_start_params_win_except_for_addresses(head):
    params = {
        "num-cpus": "7",
        "object-store-memory": "99",
        "dashboard-host": "0.0.0.0",
        "port": "6379",
        "block": "true",
    }

    given = options(ray_head.start_command(head, params, cpus=2, memory_bytes=None))

    assert (given["num-cpus"], given["object-store-memory"]) == ("7", "99")
    assert (given["dashboard-host"], given["port"]) == ("127.0.0.1", "20000")


def test_the_token_is_in_a_file_and_not_in_the_command(head):
    env = ray_head.environment(head, {}, {})

    assert env["RAY_AUTH_MODE"] == "token"
    assert env["RAY_AUTH_TOKEN_PATH"] == str(head.token_path)
    assert not any("token" in word for word in ray_head.start_command(head, {}, cpus=1, memory_bytes=None))


def test_options_of_the_persons_shell_do_not_reach_ray(head):
    shell = {
        "RAY_ADDRESS": "elsewhere:1",
        "VLLM_PORT": "1",
        "KUBECONFIG": "/x",
        "KAITO_RAY_PART": "/h",
        "HOME": "/root",
    }

    env = ray_head.environment(head, {"HF_TOKEN": "t"}, shell)

    assert env["RAY_ADDRESS"] == "127.0.0.1:20000"
    assert (env["HOME"], env["HF_TOKEN"]) == ("/root", "t")
    assert {"VLLM_PORT", "KUBECONFIG", "KAITO_RAY_PART"}.isdisjoint(env)


def test_every_process_of_a_cluster_carries_its_marker_also_under_a_process_title(head):
    env = ray_head.environment(head, {}, {})

    assert env[ray_head.MARKER] == "1234-uid"
    assert env[CLUSTERS_MARKER] == str(head.directory.parent)
    assert env["SPT_NOENV"] == "1"


def test_the_manifest_may_choose_how_much_ray_logs(head):
    assert ray_head.environment(head, {"RAY_BACKEND_LOG_LEVEL": "debug"}, {})["RAY_BACKEND_LOG_LEVEL"] == "debug"


def test_a_unix_socket_fits_below_the_session_directory(head):
    deepest = head.session / "session_2026-11-24_14-18-14_620692_1234567" / "sockets" / "dash_MetricsHead"

    assert len(str(deepest)) <= 107


def test_two_clusters_share_no_session_directory(head):
    assert RayHead("other-uid", head.directory, head.ports).session != head.session
