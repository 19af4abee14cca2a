from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn

from kaito_ray.errors import InvalidWorkspace
from tuning import model
from tuning.config import load


def _gradient(layer: nn.Module) -> torch.Tensor:
    """Return the gradient of a layer's input, by a training step."""
    layer.train()
    x = torch.ones(2, 64, dtype=torch.bfloat16, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    return x.grad


def test_an_evaluation_between_two_steps_does_not_cut_the_gradient() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")).to("cpu")
    model._keep_trainable(layer)
    before = _gradient(layer)
    layer.eval()
    with torch.no_grad():
        layer(torch.ones(2, 64, dtype=torch.bfloat16))
    assert torch.equal(_gradient(layer), before)
    assert before.abs().sum() > 0


def test_the_type_is_the_configs_else_bfloat16() -> None:
    assert model.dtype_name(load({}, method="qlora"), device="cpu") == "bfloat16"
    asked = load({"ModelConfig": {"torch_dtype": "float32"}}, method="lora")
    assert model.dtype_name(asked, device="cpu") == "float32"


def test_every_linear_layer_is_a_target_unless_some_are_named() -> None:
    assert model.lora_config(load({}, method="lora")).target_modules == "all-linear"
    named = load({"LoraConfig": {"target_modules": ["q_proj"]}}, method="lora")
    assert model.lora_config(named).target_modules == {"q_proj"}


@pytest.mark.parametrize("path", ["/etc/passwd", "/mnt/../etc/passwd", "/mnt/none.jinja"])
def test_a_chat_template_comes_from_below_mnt(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAITO_RAY_MOUNT_ROOT", str(tmp_path))
    with pytest.raises(InvalidWorkspace, match="neither Jinja text nor a file"):
        model._template(path)


def test_a_chat_template_is_a_file_or_the_text_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAITO_RAY_MOUNT_ROOT", str(tmp_path))
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt" / "t.jinja").write_text("{{ messages }}")
    assert model._template("/mnt/t.jinja") == model._template("{{ messages }}")
