from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.apiserver import ApiServer, running
from tests.e2e.faults.stage import Stage, install


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with our CRDs and the vendored ones."""
    with running(tmp_path_factory.mktemp("faults")) as server:
        asyncio.run(install(server))
        yield server


@pytest_asyncio.fixture
async def stage(server: ApiServer, tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage.on(server, tmp_path / "home") as stage:
        yield stage
