"""JSONPath, ages, formats, names, versions, log tails: each a few lines, each a thing people see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kaito_ray.local.apiserver import ages, certificates, formats, jsonpath, kubeconfig, logs, metadata, resources
from kaito_ray.local.apiserver.status import ApiError

OBJECT = {
    "metadata": {"labels": {"x.dev/a": "b"}},
    "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}], "n": 0},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.status.conditions[?(@.type!="Ready")].status', ["False"]),
        (".metadata.labels.x\\.dev/a", ["b"]),
        (".metadata.labels['x.dev/a']", ["b"]),
        (".status.conditions[1].type", ["Ready"]),
        (".status.conditions[-1].type", ["Ready"]),
        (".status.conditions[*].type", ["A", "Ready"]),
        ("{.status.n}", [0]),
        (".status.missing.deep", []),
    ],
)  # fmt: skip
def test_jsonpath(path: str, found: list[Any]) -> None:
    assert jsonpath.find(path, OBJECT) == found


@pytest.mark.parametrize("path", ["status", ".a[", ".a[?(@.b)]", ".a[1:2]"])
def test_a_jsonpath_that_is_not_supported_is_an_error(path: str) -> None:
    with pytest.raises(ValueError, match="cannot read the JSONPath"):
        jsonpath.compiled(path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 20 * 60, "5h20m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (50 * 3600, "2d2h"),
        (8 * 86400, "8d"),
        (800 * 86400, "2y70d"),
        (-5, "<invalid>"),
    ],
)  # fmt: skip
def test_ages_are_kubectls(seconds: int, text: str) -> None:
    assert ages.human(seconds) == text


def test_an_age_of_nothing_is_unknown() -> None:
    assert ages.since(None) == "<unknown>"
    assert ages.since("yesterday") == "<invalid>"


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("date-time", "2026-01-01T00:00:00.5+02:00", "2026-01-01"),
        ("duration", "1h30m", "1 hour"),
        ("ipv4", "127.0.0.1", "::1"),
        ("ipv6", "::1", "127.0.0.1"),
        ("cidr", "10.0.0.1/8", "10.0.0.1"),
        ("byte", "YQ==", "?"),
        ("uuid", "a221d795-241b-443c-b78d-1eeb79a6d35f", "a221"),
        ("uri", "https://x.dev/a", "x"),
        ("hostname", "x.dev", "x_y.dev-"),
    ],
)  # fmt: skip
def test_formats(form: str, good: str, bad: str) -> None:
    assert formats.matches(form, good)
    assert not formats.matches(form, bad)


def test_an_unknown_format_is_not_checked() -> None:
    assert formats.matches("colour", "red")


def test_versions_sort_as_discovery_lists_them() -> None:
    names = ["v1alpha1", "foo", "v10", "v1beta2", "v2", "v1", "v1beta1"]
    assert sorted(names, key=resources.version_priority) == ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]


def test_generated_names_fit() -> None:
    name = metadata.generated("x" * 80)
    assert len(name) == 63
    assert metadata.generated("x-") != metadata.generated("x-")


@pytest.mark.parametrize(
    ("kind", "name", "good"),
    [
        (resources.CONFIG_MAP, "a.b-c", True),
        (resources.CONFIG_MAP, "A", False),
        (resources.CONFIG_MAP, "a" * 254, False),
        (resources.NAMESPACE, "a.b", False),
        (resources.SERVICE, "1a", False),
        (resources.SERVICE, "a1", True),
    ],
)  # fmt: skip
def test_names(kind: resources.Kind, name: str, good: bool) -> None:
    assert (metadata.check({"metadata": {"name": name}}, kind) == []) is good


def test_two_controllers_are_one_too_many() -> None:
    owner = {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "controller": True}
    (error,) = metadata.check({"metadata": {"name": "a", "ownerReferences": [owner, owner]}}, resources.POD)
    assert "Only one reference can have Controller set to true" in str(error)


async def tail(path: Path, **query: str) -> bytes:
    return b"".join([chunk async for chunk in logs.lines(path, query)])


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("count", [0, 1, 3, 99999])
async def test_the_last_lines_of_a_log(tmp_path: Path, count: int, end: str) -> None:
    path = tmp_path / "c.log"
    every = [f"line {number} {'x' * 50}" for number in range(5000)]
    path.write_text("\n".join(every) + end)
    expected = "\n".join(every[-count:]) + end if count else ""
    assert (await tail(path, tailLines=str(count))).decode() == expected


async def test_a_log_since_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    now = datetime.now(UTC)
    old, new = ((now - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ") for seconds in (100, 5))
    path.write_text(f"{old} one\nmore of one\n{new} two\nmore of two\n")
    assert (await tail(path, sinceSeconds="30")).decode() == f"{new} two\nmore of two\n"
    assert await tail(path, sinceTime=(now + timedelta(seconds=9)).isoformat()) == b""
    path.write_text("no times here\n")
    assert await tail(path, sinceSeconds="30") == b"no times here\n"


async def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert await tail(tmp_path / "none.log", tailLines="3") == b""
    assert await tail(tmp_path / "gone" / "none.log", follow="true") == b""


@pytest.mark.parametrize("query", [{"tailLines": "x"}, {"sinceTime": "noon"}, {"limitBytes": "-1"}])
async def test_a_log_parameter_that_cannot_be_read_is_refused(tmp_path: Path, query: dict[str, str]) -> None:
    with pytest.raises(ApiError):
        await tail(tmp_path / "c.log", **query)


def test_the_container_is_chosen_or_must_be_named() -> None:
    one = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}}
    two = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}
    assert logs.container_of(one, "") == "a"
    assert logs.container_of(two, "b") == "b"
    with pytest.raises(ApiError, match=r"choose one of: \[a b\]"):
        logs.container_of(two, "")
    with pytest.raises(ApiError, match="container c is not valid for pod p"):
        logs.container_of(two, "c")


def test_certificates_are_made_once_and_the_key_is_private(tmp_path: Path) -> None:
    first = certificates.ensure(tmp_path / "pki")
    before = first.certificate.read_bytes()
    assert certificates.ensure(tmp_path / "pki").certificate.read_bytes() == before
    assert first.key.stat().st_mode & 0o077 == 0


def test_a_kubeconfig_keeps_its_token(tmp_path: Path) -> None:
    path, authority = tmp_path / "kubeconfig", tmp_path / "ca.crt"
    authority.write_text("ca")
    token = kubeconfig.token_of(path)
    kubeconfig.write(path, port=1, authority=authority, token=token)
    assert kubeconfig.token_of(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
