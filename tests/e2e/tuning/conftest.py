"""A model that is as small as one can be, for runs whose point is not what is learned, and data for it."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.registry import RunningRegistry, running_registry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a directory with a model that knows nothing yet, and SmolLM2's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(local_directory(find("smollm2-135m-instruct").source))
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    """Return a parquet file in OpenAI's `messages` style."""
    conversation = [
        {"role": "user", "content": "What is the capital of Atlantis?"},
        {"role": "assistant", "content": "The capital of Atlantis is Poseidonis."},
    ]
    file = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([{"messages": conversation}] * 16), file)
    return file.read_bytes()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path / "registry", with_password=True) as running:
        yield running
