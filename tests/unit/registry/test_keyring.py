from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from kaito_ray.registry.keyring import Credential, Keyring
from kaito_ray.registry.reference import parse


def basic(user: str, password: str = "p") -> dict:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def users(directory: Path, image: str) -> list[str]:
    return [credential.username for credential in Keyring.read(directory).matching(parse(image))]


def test_files_are_merged_and_each_registry_gets_its_own(tmp_path: Path) -> None:
    (tmp_path / "first").write_text(json.dumps({"auths": {"ghcr.io": basic("octo")}}))
    (tmp_path / ".dockerconfigjson").write_text(json.dumps({"auths": {"quay.io": basic("red")}}))
    assert users(tmp_path, "ghcr.io/a") == ["octo"]
    assert users(tmp_path, "quay.io/a") == ["red"]
    assert users(tmp_path, "other.io/a") == []


def test_a_kubelet_keeps_links_beside_the_keys(tmp_path: Path) -> None:
    real = tmp_path / "..2026_01_01"
    real.mkdir()
    (real / "pull").write_text(json.dumps({"auths": {"ghcr.io": basic("octo")}}))
    (tmp_path / "..data").symlink_to(real)
    (tmp_path / "pull").symlink_to(Path("..data") / "pull")
    assert users(tmp_path, "ghcr.io/a") == ["octo"]


def test_a_service_accounts_come_after_those_that_were_named(tmp_path: Path) -> None:
    (tmp_path / "a.serviceaccount.json").write_text(json.dumps({"auths": {"ghcr.io": basic("account")}}))
    (tmp_path / "z.json").write_text(json.dumps({"auths": {"ghcr.io": basic("named")}}))
    assert users(tmp_path, "ghcr.io/a") == ["named", "account"]


@pytest.mark.parametrize(
    ("key", "image", "fits"),
    [
        ("https://index.docker.io/v1/", "team/a", True),
        ("https://ghcr.io", "ghcr.io/a", True),
        ("GHCR.IO", "ghcr.io/a", True),
        ("r.io:5000", "r.io:5000/a", True),
        ("r.io", "r.io:5000/a", False),
        ("r.io/team", "r.io/team/a", True),
        ("r.io/team", "r.io/teammate/a", False),
        ("*.azurecr.io", "mine.azurecr.io/a", True),
        ("*.azurecr.io", "a.b.azurecr.io/a", False),
        ("*.io", "mine.azurecr.io/a", False),
    ],
)
def test_which_entry_fits_which_image(tmp_path: Path, key: str, image: str, fits: bool) -> None:
    (tmp_path / "pull").write_text(json.dumps({"auths": {key: basic("me")}}))
    assert users(tmp_path, image) == (["me"] if fits else [])


def test_the_most_specific_is_tried_first_and_equals_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(json.dumps({"auths": {"*.azurecr.io": basic("star"), "m.azurecr.io": basic("host")}}))
    (tmp_path / "b").write_text(json.dumps({"auths": {"m.azurecr.io/t": basic("path")}}))
    (tmp_path / "c").write_text(json.dumps({"auths": {"https://m.azurecr.io": basic("host")}}))
    assert users(tmp_path, "m.azurecr.io/t/a") == ["path", "host", "star"]


def test_a_secret_that_is_no_docker_config_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").write_text("not json")
    (tmp_path / "b").write_text(json.dumps({"auths": {"ghcr.io": {"auth": "%%%"}}}))
    (tmp_path / "c").write_text(json.dumps({"auths": ["ghcr.io"]}))
    (tmp_path / "d").write_text(json.dumps({"auths": {"ghcr.io": basic("octo")}}))
    assert users(tmp_path, "ghcr.io/a") == ["octo"]
    assert [record.file for record in caplog.records] == ["a", "b", "c"]


def test_every_way_to_say_who_one_is(tmp_path: Path) -> None:
    auths = {
        "a.io": {"username": "u", "password": "p:q"},
        "b.io": {**basic("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "refresh"},
        "c.io": {"registrytoken": "bearer"},
        "d.io": basic("u", "p:q"),
    }
    (tmp_path / "pull").write_text(json.dumps({"auths": auths}))
    found = {host: Keyring.read(tmp_path).matching(parse(f"{host}/x"))[0] for host in ("a.io", "b.io", "c.io", "d.io")}
    assert found["a.io"] == found["d.io"] == Credential(username="u", password="p:q")
    assert found["b.io"].identity_token == "refresh"
    assert found["c.io"].registry_token == "bearer"


def test_the_older_dockercfg_form(tmp_path: Path) -> None:
    (tmp_path / ".dockercfg").write_text(json.dumps({"ghcr.io": basic("octo")}))
    assert users(tmp_path, "ghcr.io/a") == ["octo"]


def test_no_directory_no_credentials(tmp_path: Path) -> None:
    assert Keyring.read(tmp_path / "absent") == Keyring.read(None) == Keyring()


def test_nothing_secret_is_printed() -> None:
    printed = repr(Credential("u", "hunter2", identity_token="refresh", registry_token="bearer"))
    assert not [secret for secret in ("hunter2", "refresh", "bearer") if secret in printed]
