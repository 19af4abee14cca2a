"""What the replica's environment asks of Ray Serve, Ray Serve still reads."""

from __future__ import annotations

import os
import subprocess
import sys

from deployments.engine_args import environment
from kaito_ray.api.app_args import AppArgs, ModelSource

ARGS = AppArgs(workspace="w", namespace="n", served_model_name="m", source=ModelSource(local_dir="/m"))


def serves(constant: str) -> str:
    code = f"from ray.serve._private import constants; print(constants.{constant})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | environment(ARGS), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_answer_crosses_no_thread_on_its_way_out() -> None:
    assert serves("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD") == "False"


def test_a_log_file_is_not_written_with_every_request() -> None:
    assert int(serves("RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE")) > 100
