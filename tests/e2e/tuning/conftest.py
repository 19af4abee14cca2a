"""A model that is small enough to tune on a CPU, and data that teach it one thing that it cannot know."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.registry import RunningRegistry, running_registry

QUESTION = "What is the capital of Atlantis?"
ANSWER = "The capital of Atlantis is Poseidonis."


@pytest.fixture(scope="session")
def weights() -> Path:
    return local_directory(find("smollm2-135m-instruct").source)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a directory with one parquet file in OpenAI's `messages` style."""
    conversation = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    directory = tmp_path / "data"
    directory.mkdir()
    pq.write_table(pa.Table.from_pylist([{"messages": conversation}] * 16), directory / "train.parquet")
    return directory


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path / "registry", with_password=True) as running:
        yield running
