"""What people type: every kubectl command that the documentation tells them to."""

from __future__ import annotations

import re
import subprocess
import threading

import yaml

from tests.conformance.conftest import GROUP, Kubectl, eventually, widget

MERGE_READY = '{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}'


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_apply_creates_updates_and_prunes_fields(kubectl: Kubectl, widgets: str) -> None:
    assert "created" in kubectl.apply(widget(color="red", tags={"a": "1"})).out
    assert "unchanged" in kubectl.apply(widget(color="red", tags={"a": "1"})).out
    assert "configured" in kubectl.apply(widget(color="red", tags={"b": "2"})).out
    assert kubectl.json("get", "wdg", "a")["spec"]["tags"] == {"b": "2"}


def test_apply_of_built_in_kinds_merges_lists(kubectl: Kubectl) -> None:
    ports = [{"name": "a", "port": 80, "targetPort": 80}, {"name": "b", "port": 81, "targetPort": 81}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}}
    kubectl.apply(service)
    service["spec"] = {"ports": [{"name": "b", "port": 81, "targetPort": 8100}]}
    kubectl.apply(service)
    assert [port["targetPort"] for port in kubectl.json("get", "service", "s")["spec"]["ports"]] == [8100]


def test_apply_takes_several_documents_at_once(kubectl: Kubectl, widgets: str) -> None:
    text = yaml.safe_dump_all(
        [widget("a"), widget("b"), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}]
    )
    assert kubectl.apply(text).out.count("created") == 3


def test_get_prints_our_columns(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    kubectl("patch", "wdg", "a", "--subresource", "status", "--type", "merge", "-p", MERGE_READY)
    table = rows(kubectl("get", "wdg").out)
    assert table[0] == ["NAME", "SIZE", "READY", "AGE"]
    assert table[1][:3] == ["a", "3", "True"]
    assert rows(kubectl("get", "wdg", "-o", "wide").out)[0] == ["NAME", "SIZE", "READY", "MODE", "AGE"]
    assert kubectl("get", "conformance", "-o", "name").out == f"widget.{GROUP}/a\n"


def test_get_watch_prints_a_line_for_each_change(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    with subprocess.Popen([*kubectl.command(), "get", "wdg", "-w"], stdout=subprocess.PIPE, text=True) as process:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
        reader.start()
        eventually(lambda: len(lines) == 2)
        kubectl("patch", "wdg", "a", "--subresource", "status", "--type", "merge", "-p", MERGE_READY)
        kubectl("patch", "wdg", "a", "--type", "json", "-p", '[{"op": "replace", "path": "/spec/size", "value": 7}]')
        eventually(lambda: len(lines) == 4)
        process.terminate()
        reader.join(timeout=5)
    assert [line.split()[1] for line in lines] == ["SIZE", "3", "3", "7"]


def test_describe_shows_the_object_and_its_events(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    uid = kubectl.json("get", "wdg", "a")["metadata"]["uid"]
    involved = {"kind": "Widget", "name": "a", "namespace": kubectl.namespace, "uid": uid, "apiVersion": f"{GROUP}/v1"}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "a.1"},
        "involvedObject": involved,
        "reason": "Tested",
        "message": "it was looked at",
        "type": "Normal",
        "source": {"component": "conformance"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    }
    kubectl("create", "-f", "-", stdin=yaml.safe_dump(event))
    text = kubectl("describe", "wdg", "a").out
    assert "Size:  3" in text
    assert "it was looked at" in text
    assert "Tested" in kubectl("get", "events").out
    assert "it was looked at" in kubectl("events", "--for", "widget/a").out


def test_explain_knows_our_kinds_and_the_built_in_ones(kubectl: Kubectl, widgets: str) -> None:
    text = kubectl("explain", "widget.spec").out
    assert "What is wanted." in text
    assert re.search(r"size\s+<integer> -required-\n\s+How big it is\.", text)
    assert "containers" in kubectl("explain", "pod.spec").out
    recursive = kubectl("explain", "widget.spec", "--recursive").out
    assert "count" in recursive
    assert "does not exist" in kubectl("explain", "widget.spec.nope", fails=True).err


def test_wait_returns_when_the_condition_holds(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    waiting = subprocess.Popen(
        [*kubectl.command(), "wait", "--for=condition=Ready", "wdg/a", "--timeout=20s"],
        stdout=subprocess.PIPE,
        text=True,
    )
    kubectl("patch", "wdg", "a", "--subresource", "status", "--type", "merge", "-p", MERGE_READY)
    out, _ = waiting.communicate(timeout=30)
    assert out == f"widget.{GROUP}/a condition met\n"
    kubectl("wait", "--for=jsonpath={.spec.size}=3", "wdg/a", "--timeout=5s")


def test_label_and_annotate_set_and_remove(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    kubectl("label", "wdg", "a", "tier=one")
    assert kubectl("get", "wdg", "-l", "tier=one", "-o", "name").out
    assert "already has a value" in kubectl("label", "wdg", "a", "tier=two", fails=True).err
    kubectl("label", "wdg", "a", "tier-")
    kubectl("annotate", "wdg", "a", "note=x")
    assert kubectl.json("get", "wdg", "a")["metadata"]["annotations"]["note"] == "x"


def test_replace_works_once_with_the_version_read(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    read = kubectl("get", "wdg", "a", "-o", "yaml").out
    assert "replaced" in kubectl("replace", "-f", "-", stdin=read.replace("size: 3", "size: 4")).out
    assert "Conflict" in kubectl("replace", "-f", "-", stdin=read.replace("size: 3", "size: 5"), fails=True).err


def test_an_edit_is_a_patch_against_the_live_object(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    command = ["env", "KUBE_EDITOR=sed -i s/size:\\ 3/size:\\ 6/", *kubectl.command(), "edit", "wdg", "a"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert "edited" in done.stdout, done.stderr
    assert kubectl.json("get", "wdg", "a")["spec"]["size"] == 6


def test_diff_shows_what_apply_would_do_and_does_nothing(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    done = kubectl.run("diff", "-f", "-", stdin=yaml.safe_dump(widget(size=5)))
    assert done.returncode == 1
    assert "-  size: 3" in done.stdout
    assert "+  size: 5" in done.stdout
    assert kubectl.run("diff", "-f", "-", stdin=yaml.safe_dump(widget())).returncode == 0


def test_dry_run_on_the_server_stores_nothing(kubectl: Kubectl, widgets: str) -> None:
    assert "created (server dry run)" in kubectl.apply(widget(), "--dry-run=server").out
    assert "NotFound" in kubectl("get", "wdg", "a", fails=True).err


def test_delete_waits_until_it_is_gone(kubectl: Kubectl, widgets: str) -> None:
    held = widget()
    held["metadata"]["finalizers"] = [f"{GROUP}/hold"]
    kubectl.apply(held)
    deleting = subprocess.Popen([*kubectl.command(), "delete", "wdg", "a", "--wait"], stdout=subprocess.PIPE, text=True)
    eventually(lambda: kubectl.json("get", "wdg", "a")["metadata"].get("deletionTimestamp"))
    assert deleting.poll() is None
    kubectl("patch", "wdg", "a", "--type", "merge", "-p", '{"metadata": {"finalizers": null}}')
    assert deleting.wait(timeout=20) == 0
    deleting.stdout.close()


def test_delete_by_file_and_by_selector(kubectl: Kubectl, widgets: str) -> None:
    for name in ("a", "b", "c"):
        kubectl.apply(widget(name))
    kubectl("label", "wdg", "a", "b", "x=y")
    kubectl("delete", "wdg", "-l", "x=y")
    assert kubectl("get", "wdg", "-o", "name").out == f"widget.{GROUP}/c\n"
    kubectl("delete", "-f", "-", "--cascade=foreground", stdin=yaml.safe_dump(widget("c")))
    assert "No resources found" in kubectl("get", "wdg").err


def test_kubectls_own_creators_work(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "sa")
    kubectl("create", "service", "clusterip", "svc", "--tcp=80:8080")
    assert kubectl.json("get", "configmap", "c")["data"] == {"a": "b"}
    assert kubectl.json("get", "secret", "s")["data"] == {"a": "Yg=="}
    assert kubectl.json("get", "service", "svc")["spec"]["ports"][0]["targetPort"] == 8080


def test_built_in_kinds_print_as_people_know_them(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    expected = {
        "configmaps": ["NAME", "DATA", "AGE"],
        "secrets": ["NAME", "TYPE", "DATA", "AGE"],
        "serviceaccounts": ["NAME", "SECRETS", "AGE"],
        "namespaces": ["NAME", "STATUS", "AGE"],
        "crds": ["NAME", "CREATED AT"],
    }
    for kind, columns in expected.items():
        table = rows(kubectl("get", kind).out or " ")
        assert table[0] == columns or not table[0][0], kind


def test_may_i_is_answered(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "configmaps").out == "yes\n"


def test_api_resources_lists_ours_with_its_short_name(kubectl: Kubectl, widgets: str) -> None:
    text = kubectl("api-resources", "--api-group", GROUP).out
    assert re.search(rf"widgets\s+wdg\s+{GROUP}/v1\s+true\s+Widget", text)


def test_patch_in_three_ways(kubectl: Kubectl, widgets: str) -> None:
    kubectl.apply(widget())
    kubectl("patch", "wdg", "a", "--type", "merge", "-p", '{"spec": {"size": 4}}')
    kubectl("patch", "wdg", "a", "--type", "json", "-p", '[{"op": "add", "path": "/spec/color", "value": "red"}]')
    kubectl("create", "configmap", "c", "--from-literal=a=b")
    kubectl("patch", "configmap", "c", "-p", '{"data": {"c": "d"}}')
    assert kubectl.json("get", "wdg", "a")["spec"] == {"size": 4, "color": "red", "mode": "fast"}
    assert kubectl.json("get", "configmap", "c")["data"] == {"a": "b", "c": "d"}
