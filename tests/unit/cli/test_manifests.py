from __future__ import annotations

from pathlib import Path

import pytest

from kaito_ray.cli.manifests import RefusedManifest, UnreadableManifest, admitted, read

WORKSPACE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: %s}
resource: {labelSelector: {matchLabels: {apps: x}}}
inference: {preset: {name: smollm2-135m-instruct}}
"""
CONFIG = "{apiVersion: v1, kind: ConfigMap, metadata: {name: options}, data: {inference_config.yaml: 'vllm: {}'}}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "workspace.yaml"


def test_workspaces_and_their_config_maps_are_found_among_others(file: Path) -> None:
    other = "{apiVersion: v1, kind: Namespace, metadata: {name: n}}"
    file.write_text(f"{WORKSPACE % 'a'}---\n{CONFIG}\n---\n{other}\n---\n{WORKSPACE % 'b'}---\n")
    found = read(file)
    assert [w["metadata"]["name"] for w in found.workspaces] == ["a", "b"]
    assert list(found.config_maps) == ["options"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML: .*line 1"),
        ("just words", "document 1 of .* has no metadata.name"),
        (CONFIG, "holds no Workspace, but ConfigMap"),
        ("", "holds no Workspace, but nothing"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_place(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(UnreadableManifest, match="(?s)--filename: .*" + words):
        read(file)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(UnreadableManifest, match=f"cannot read {file}: No such file"):
        read(file)


def test_admission_speaks_before_any_api_server(file: Path) -> None:
    file.write_text((WORKSPACE % "a").replace("smollm2-135m-instruct", "smollm3-135m"))
    with pytest.raises(RefusedManifest, match=r"inference\.preset\.name"):
        admitted(read(file).workspaces[0])
