"""`plan` and `render`: the operator's own decisions, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.cli.examples import example
from kaito_ray.cli.foresight import foresee

from .conftest import CommandLine

SMALL = str(example("inference/workspace_smollm2.yaml"))
PHI_3 = str(example("inference/workspace_phi_3.yaml"))


@pytest.fixture
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path(PHI_3).read_text())
    return loaded


def plans(command_line: CommandLine, *words: str) -> list[dict[str, Any]]:
    result = command_line.run("plan", *words, "-o", "json")
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_without_an_instance_type_it_is_this_machine(command_line: CommandLine) -> None:
    (plan,) = plans(command_line, "-f", SMALL)
    assert (plan["instanceType"], plan["device"]) == ("local", "cpu")


def test_the_manifests_instance_type_is_planned_for(command_line: CommandLine) -> None:
    (plan,) = plans(command_line, "-f", PHI_3)
    assert (plan["instanceType"], plan["device"]) == ("Standard_NC24ads_A100_v4", "cuda")


def test_gpu_takes_the_place_of_the_manifests(command_line: CommandLine) -> None:
    (plan,) = plans(command_line, "-f", PHI_3, "--gpu", "Standard_NC40ads_H100_v5")
    assert plan["instanceType"] == "Standard_NC40ads_H100_v5"
    (plan,) = plans(command_line, "-f", PHI_3, "--gpu", "local")
    assert plan["device"] == "cpu"


def test_the_plan_of_a_file_is_the_one_that_is_rendered(manifest: dict[str, Any]) -> None:
    foreseen = foresee(manifest, {})
    rendered = next(o for o in foreseen.objects() if o["kind"] == "RayService")
    limits = rendered["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]
    assert limits["limits"]["nvidia.com/gpu"] == str(foreseen.plan.machine.gpu_count)


@pytest.mark.parametrize(
    ("instance_type", "provisioned"), [("g6.xlarge", "EC2NodeClass"), ("Standard_NC24ads_A100_v4", "AKSNodeClass")]
)
def test_the_provider_is_the_one_that_has_the_instance_type(
    manifest: dict[str, Any], instance_type: str, provisioned: str
) -> None:
    pool = next(o for o in foresee(manifest, {}, gpu=instance_type).objects() if o["kind"] == "NodePool")
    assert pool["spec"]["template"]["spec"]["nodeClassRef"]["kind"] == provisioned


def test_a_model_is_planned_without_a_file_and_says_why(command_line: CommandLine) -> None:
    lines = command_line.run("plan", "--model", "smollm2", "--context", "1024").stdout.splitlines()
    assert lines[0] == "model       smollm2-135m-instruct"
    assert lines[lines.index("why") + 1].startswith("  - 1 machine")
    assert any("1024 tokens" in line for line in lines)


def test_a_retired_machine_is_replaced_and_both_are_named(command_line: CommandLine) -> None:
    (plan,) = plans(command_line, "--model", "phi-3-mini-4k-instruct", "--gpu", "Standard_NC6s_v3")
    assert (plan["requestedInstanceType"], plan["instanceType"]) == ("Standard_NC6s_v3", "Standard_NV36ads_A10_v5")
    text = command_line.run("plan", "-m", "phi-3-mini-4k-instruct", "--gpu", "Standard_NC6s_v3").stdout
    assert "instead of  Standard_NC6s_v3" in text


def test_the_machines_of_a_provider_are_compared(command_line: CommandLine) -> None:
    lines = command_line.run("plan", "--model", "phi-4", "--provider", "azure").stdout.splitlines()
    assert lines[0].split() == ["INSTANCE", "GPU", "NODES", "TP", "PP", "DP", "CONTEXT", "SEQUENCES", "PRICE/H"]
    assert any(line.startswith("Standard_NC24ads_A100_v4 ") for line in lines)
    assert not any(line.startswith("Standard_NC6s_v3 ") for line in lines)


def test_a_model_in_a_directory_is_planned_by_its_config(command_line: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    dimensions = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192, **dimensions}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"0" * 1000)
    (plan,) = plans(command_line, "--model", str(folder), "--gpu", "g6.xlarge")
    assert (plan["contextLengthTokens"], plan["memory"]["weightsBytes"]) == (8192, 1000)


@pytest.mark.parametrize(
    ("files", "error"), [((), "config.json cannot be read"), (("config.json",), "no *.safetensors")]
)
def test_a_directory_that_holds_no_model_says_what_is_missing(
    command_line: CommandLine, tmp_path: Path, files: tuple[str, ...], error: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    result = command_line.run("plan", "--model", str(tmp_path))
    assert result.exit_code == 2
    assert error in result.stderr


def test_a_price_file_orders_them_and_is_shown(command_line: CommandLine, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("Standard_NC40ads_H100_v5: 2.5\nStandard_NC24ads_A100_v4: 3.7\n")
    result = command_line.run("plan", "--model", "phi-4", "--provider", "azure", "--prices", str(prices))
    first, second = (line.split() for line in result.stdout.splitlines()[1:3])
    assert (first[0], first[-1]) == ("Standard_NC40ads_H100_v5", "2.50")
    assert (second[0], second[-1]) == ("Standard_NC24ads_A100_v4", "3.70")


@pytest.mark.parametrize("text", ["[", "g6.xlarge: cheap", "- 3"])
def test_a_price_file_that_is_none_says_what_it_must_be(command_line: CommandLine, tmp_path: Path, text: str) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(text)
    result = command_line.run("plan", "--model", "phi-4", "--provider", "azure", "--prices", str(prices))
    assert result.exit_code == 2
    assert "--prices: " in result.stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("-m", "phi-4", "--prices", "p.yaml"), "--prices: only with --provider"),
        ((), "--filename, --model: name a manifest or a model, one of the two"),
        (("-f", SMALL, "-m", "phi-4"), "one of the two"),
        (("-f", SMALL, "--context", "5"), "--context, --provider: only with --model"),
        (("-m", "phi-4", "--provider", "azure", "--gpu", "local"), "not both"),
        (("-m", "phi-44"), "--model: no preset is named 'phi-44'"),
        (("-m", "smollm2", "--context", "9000"), "max-model-len 9000 is more than smollm2-135m-instruct can"),
        (("-m", "deepseek-r1-0528", "--gpu", "Standard_NC4as_T4_v3"), "Standard_NC4as_T4_v3"),
    ],
)
def test_what_cannot_be_planned_is_told(command_line: CommandLine, words: tuple[str, ...], error: str) -> None:
    result = command_line.run("plan", *words)
    assert result.exit_code == 2
    assert error in result.stderr


def test_a_plan_is_for_one_workspace(command_line: CommandLine) -> None:
    both = f"{Path(SMALL).read_text()}---\n{Path(PHI_3).read_text()}"
    assert "holds 2 Workspaces" in command_line.run("plan", "-f", "-", input=both).stderr


def test_everything_that_the_operator_would_write_is_rendered(command_line: CommandLine) -> None:
    result = command_line.run("render", "-f", SMALL)
    kinds = [document["kind"] for document in yaml.safe_load_all(result.stdout)]
    assert kinds == ["NodePool", "Secret", "Secret", "Service", "NetworkPolicy", "PodDisruptionBudget", "RayService"]
    assert "  serveConfigV2: |\n    applications:\n" in result.stdout


def test_json_is_one_list_of_the_same(command_line: CommandLine) -> None:
    rendered = json.loads(command_line.run("render", "-f", SMALL, "-o", "json").stdout)
    assert rendered["kind"] == "List"
    assert rendered["items"] == list(yaml.safe_load_all(command_line.run("render", "-f", SMALL).stdout))


def test_rendering_twice_gives_the_same_bytes(command_line: CommandLine) -> None:
    assert command_line.run("render", "-f", PHI_3).stdout == command_line.run("render", "-f", PHI_3).stdout


def test_a_config_map_is_taken_from_the_same_file(command_line: CommandLine, manifest: dict[str, Any]) -> None:
    manifest["inference"]["config"] = "options"
    alone = command_line.run("render", "-f", "-", input=yaml.safe_dump(manifest))
    assert alone.exit_code == 2
    assert "there is no ConfigMap options" in alone.stderr
    options = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "options"},
        "data": {"inference_config.yaml": "vllm:\n  max-model-len: 1234\n"},
    }
    both = command_line.run("render", "-f", "-", input=yaml.safe_dump_all([options, manifest]))
    assert "max_model_len: 1234" in both.stdout


def test_an_unreplaced_placeholder_is_refused_by_name(command_line: CommandLine) -> None:
    path = str(example("inference/workspace_phi_3_with_adapters.yaml"))
    result = command_line.run("render", "-f", path)
    assert result.exit_code == 2
    assert "REGISTRY_HERE and ADAPTER_HERE are placeholders" in result.stderr


@pytest.fixture
def tuning(tmp_path: Path) -> Path:
    """Return the example of a tuning Workspace, with its ConfigMap in the same file."""
    text = example("tuning/workspace_qlora_smollm2.yaml").read_text()
    config = example("tuning/smollm2.training_config.yml").read_text()
    config_map = {"kind": "ConfigMap", "metadata": {"name": "tune-smollm2"}, "data": {"training_config.yaml": config}}
    file = tmp_path / "tuning.yaml"
    text = text.replace("DATA_HOST_HERE", "data.lan").replace("REGISTRY_HERE", "registry.lan")
    file.write_text(f"{text}\n---\n{json.dumps(config_map)}")
    return file


def rendered(command_line: CommandLine, *words: str) -> dict[str, dict[str, Any]]:
    result = command_line.run("render", *words, "-o", "json")
    assert result.exit_code == 0, result.stderr
    return {f"{o['kind']}/{o['metadata']['name']}": o for o in json.loads(result.stdout)["items"]}


def test_a_tuning_manifest_is_rendered_with_the_operators_setting_for_data(
    command_line: CommandLine, tuning: Path
) -> None:
    objects = rendered(command_line, "-f", str(tuning), "--data-allow", "data.lan, 10.0.0.0/8")
    assert {"NodePool/default-tune-smollm2", "PersistentVolumeClaim/tune-smollm2-tuning"} < set(objects)
    assert "RayJob/tune-smollm2-data" not in objects, "no GPU, nothing to save"
    template = objects["RayJob/tune-smollm2"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    assert {"name": "KAITO_RAY_DATA_ALLOW", "value": "data.lan,10.0.0.0/8"} in template["spec"]["containers"][0]["env"]


def test_where_it_needs_a_gpu_the_look_at_the_data_is_rendered_first(command_line: CommandLine, tuning: Path) -> None:
    objects = rendered(command_line, "-f", str(tuning), "--gpu", "Standard_NC24ads_A100_v4")
    order = [name for name in objects if name.startswith(("RayJob", "NodePool"))]
    assert order == ["RayJob/tune-smollm2-data", "NodePool/default-tune-smollm2", "RayJob/tune-smollm2"]


def test_a_tuning_manifest_is_planned(command_line: CommandLine, tuning: Path) -> None:
    (plan,) = plans(command_line, "-f", str(tuning))
    assert (plan["dtype"], plan["device"]) == ("nf4", "cpu")
    lines = command_line.run("plan", "-f", str(tuning)).stdout.splitlines()
    assert lines[0] == "model       smollm2-135m-instruct"
    assert any("base weights on each worker" in line for line in lines)
