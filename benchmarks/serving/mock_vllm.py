"""Plain vLLM with a mock engine: `vllm serve` with one class replaced."""

from __future__ import annotations

from vllm.entrypoints.launchers.api_server.entry import main

from benchmarks.serving import mock_core

if __name__ == "__main__":
    mock_core.install()
    main()
