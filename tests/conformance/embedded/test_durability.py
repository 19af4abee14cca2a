"""What only our own server can be put through: crashes, restarts, a log cut short. Nothing acknowledged is lost."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from kaito_ray.local.apiserver.store import Store
from tests.apiserver import ApiServer, running
from tests.conformance.conftest import eventually

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    made = ApiServer(tmp_path / "home")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One server for all tests that leave it as it is."""
    with running(tmp_path_factory.mktemp("calm")) as made:
        yield made


def request(server: ApiServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    config = yaml.safe_load(server.kubeconfig.read_text())
    url = config["clusters"][0]["cluster"]["server"] + path
    token = config["users"][0]["user"]["token"]
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    asked = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), sent, method=method)
    context = ssl.create_default_context(cafile=str(server.home / "pki" / "ca.crt"))
    try:
        with urllib.request.urlopen(asked, context=context, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_what_was_acknowledged_survives_kill_9(server: ApiServer) -> None:
    acknowledged: list[str] = []

    def write() -> None:
        for index in range(500):
            try:
                if request(server, "POST", MAPS, {"metadata": {"name": f"m{index}"}})[0] == 201:
                    acknowledged.append(f"m{index}")
            except (OSError, ValueError):
                return

    thread = threading.Thread(target=write)
    thread.start()
    eventually(lambda: len(acknowledged) > 20)
    server.kill()
    thread.join()
    server.start()
    kept = {item["metadata"]["name"] for item in request(server, "GET", MAPS)[1]["items"]}
    assert set(acknowledged) <= kept


def test_versions_go_on_after_a_restart_and_a_watch_picks_up_where_it_was(server: ApiServer) -> None:
    _, made = request(server, "POST", MAPS, {"metadata": {"name": "a"}})
    version = made["metadata"]["resourceVersion"]
    request(server, "POST", MAPS, {"metadata": {"name": "b"}})
    request(server, "DELETE", f"{MAPS}/b")
    server.kill()
    server.start()
    _, later = request(server, "POST", MAPS, {"metadata": {"name": "c"}})
    assert int(later["metadata"]["resourceVersion"]) > int(version) + 2
    events = watched(server, f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}")
    assert [(one["type"], one["object"]["metadata"]["name"]) for one in events] == [
        ("ADDED", "b"),
        ("DELETED", "b"),
        ("ADDED", "c"),
    ]


def test_a_version_that_is_no_longer_kept_is_gone(server: ApiServer) -> None:
    _, made = request(server, "POST", MAPS, {"metadata": {"name": "a"}})
    request(server, "POST", MAPS, {"metadata": {"name": "b"}})
    server.stop()
    store = Store(server.home / "apiserver.db", dict)
    store.compact(keep_events=0)
    store.close()
    server.start()
    version = made["metadata"]["resourceVersion"]
    (event,) = watched(server, f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}")
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"].startswith("too old resource version: ")
    assert {item["metadata"]["name"] for item in request(server, "GET", MAPS)[1]["items"]} == {"a", "b"}


def test_a_restart_keeps_port_and_token_and_the_kubeconfig_is_private(server: ApiServer) -> None:
    before = server.kubeconfig.read_text()
    assert stat.S_IMODE(server.kubeconfig.stat().st_mode) == 0o600
    server.stop()
    server.start()
    assert server.kubeconfig.read_text() == before


def test_a_stop_ends_watches_in_an_orderly_way(server: ApiServer) -> None:
    request(server, "POST", MAPS, {"metadata": {"name": "a"}})
    events: list[dict[str, Any]] = []
    watching = threading.Thread(target=lambda: events.extend(watched(server, f"{MAPS}?watch=1")))
    watching.start()
    eventually(lambda: events)
    server.stop()
    watching.join(timeout=5)
    assert [one["type"] for one in events] == ["ADDED"]
    assert "Cancel" not in server.log.read_text()


def test_a_collection_that_a_crash_cut_short_is_finished(server: ApiServer) -> None:
    _, owner = request(server, "POST", MAPS, {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    request(server, "POST", MAPS, {"metadata": {"name": "child", "ownerReferences": [reference]}})
    server.stop()
    store = Store(server.home / "apiserver.db", dict)
    store.remove("/configmaps", "default", "owner", int(owner["metadata"]["resourceVersion"]))
    store.close()
    server.start()
    eventually(lambda: request(server, "GET", f"{MAPS}/child")[0] == 404)


def test_a_second_server_in_the_same_home_is_refused(calm: ApiServer) -> None:
    command = [sys.executable, "-m", "kaito_ray.local.apiserver", "--home", str(calm.home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "an API server runs in" in done.stderr
    assert request(calm, "GET", "/version")[0] == 200


def test_it_listens_on_loopback_only(calm: ApiServer) -> None:
    assert calm.process is not None
    listening = [one for one in psutil.Process(calm.process.pid).net_connections() if one.status == "LISTEN"]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "headers", [{"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}]
)
def test_nobody_gets_in_without_the_token(calm: ApiServer, headers: dict[str, str]) -> None:
    code, body = request(calm, "GET", MAPS, **headers)
    assert (code, body["reason"]) == (401, "Unauthorized")


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward", "proxy", "eviction", "binding"])
def test_what_is_not_served_is_refused_with_what_to_use_instead(calm: ApiServer, subresource: str) -> None:
    code, body = request(calm, "POST", f"/api/v1/namespaces/default/pods/x/{subresource}", {})
    assert (code, body["reason"]) == (501, "NotImplemented")
    assert body["message"].startswith(f"{subresource} is not served by this embedded API server: ")


def test_server_side_apply_is_refused_with_what_to_use_instead(calm: ApiServer) -> None:
    kubectl = ["kubectl", "--kubeconfig", str(calm.kubeconfig), "--cache-dir", str(calm.home / "cache")]
    manifest = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}'
    done = subprocess.run(
        [*kubectl, "apply", "--server-side", "-f", "-"], input=manifest, capture_output=True, text=True, check=False
    )
    assert "use `kubectl apply` without --server-side" in done.stderr


def test_a_pods_log_is_the_file_that_its_process_writes(calm: ApiServer) -> None:
    spec = {"containers": [{"name": "main", "image": "x"}]}
    request(calm, "POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}, "spec": spec})
    file = calm.home / "pods" / "default_p" / "main.log"
    file.parent.mkdir(parents=True)
    file.write_text("one\ntwo\nthree\n")
    kubectl = [
        "kubectl",
        "--kubeconfig",
        str(calm.kubeconfig),
        "--cache-dir",
        str(calm.home / "cache"),
        "logs",
        "p",
    ]

    def out(*words: str) -> str:
        return subprocess.run([*kubectl, *words], capture_output=True, text=True, check=True).stdout

    assert out() == "one\ntwo\nthree\n"
    assert out("--tail=2") == "two\nthree\n"
    assert out("--limit-bytes=5") == "one\nt"
    refused = subprocess.run([*kubectl, "--previous"], capture_output=True, text=True, check=False)
    assert 'previous terminated container "main" in pod "p" not found' in refused.stderr
    with subprocess.Popen([*kubectl, "-f", "--tail=1"], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "three\n"
        with file.open("a") as more:
            more.write("four\n")
        assert following.stdout.readline() == "four\n"
        following.terminate()


def watched(server: ApiServer, path: str) -> Iterator[dict[str, Any]]:
    config = yaml.safe_load(server.kubeconfig.read_text())
    headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
    asked = urllib.request.Request(config["clusters"][0]["cluster"]["server"] + path, headers=headers)
    context = ssl.create_default_context(cafile=str(server.home / "pki" / "ca.crt"))
    with urllib.request.urlopen(asked, context=context, timeout=10) as answer:
        yield from (json.loads(line) for line in answer)


def refused_start(home: Path, *options: str) -> str:
    command = [sys.executable, "-m", "kaito_ray.local.apiserver", "--home", str(home), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    return done.stderr


def test_a_port_in_use_is_named_with_the_remedy(calm: ApiServer, tmp_path: Path) -> None:
    port = (calm.home / "apiserver.port").read_text()
    words = refused_start(tmp_path / "other", "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}" in words
    assert "give another --port" in words


def test_the_port_of_the_last_start_in_use_is_named_with_the_remedy(calm: ApiServer, tmp_path: Path) -> None:
    kept = tmp_path / "apiserver.port"
    kept.write_text((calm.home / "apiserver.port").read_text())
    words = refused_start(tmp_path)
    assert f"cannot listen on 127.0.0.1:{kept.read_text()}" in words
    assert f"remove {kept}" in words
