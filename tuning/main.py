"""The tuning job: data, training, delivery, in that order and each at most once.

    python -m tuning.main [--check-data] [ARGS.json]

Without a file the arguments come from the environment variable `KAITO_RAY_TUNING_ARGS`. Started again after a crash, it
goes on from the last checkpoint; started again after a failed push, it only pushes. With `--check-data` it fetches and
reads the data as it would, says what is wrong with it, and leaves nothing behind.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from kaito_ray.api.status import TuningStatus
from kaito_ray.api.tuning_args import (
    ALLOW_VARIABLE,
    ARGS_VARIABLE,
    CHECK_ONLY,
    TuningArgs,
    TuningFailure,
    TuningProgress,
)
from kaito_ray.errors import InvalidWorkspace, KaitoRayError
from tuning import config as training_config
from tuning import data, data_image, deliver, download, model, report
from tuning.config import TrainingConfig, fitted
from tuning.paths import RunDirectory, on_this_machine, run_directory

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Return 0 when the adapter is delivered, or the data is good; else 1, and the last line says why."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # The requests that it would log are signed URLs.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        given = arguments([word for word in argv if word != CHECK_ONLY])
        if CHECK_ONLY in argv:
            check_data(given)
        else:
            tune(given)
    except KaitoRayError as error:
        print(TuningFailure(reason=error.reason, message=str(error)).to_line(), flush=True)
        return 1
    return 0


def arguments(argv: Sequence[str]) -> TuningArgs:
    """Return the job's arguments, from the file that `argv` names, else from the environment.

    Raises:
        InvalidWorkspace: they are not there, or not of the form that this version knows.
    """
    text = Path(argv[0]).read_text() if argv else os.environ.get(ARGS_VARIABLE)
    if not text:
        raise InvalidWorkspace("tuning", f"no arguments; name a file, or set {ARGS_VARIABLE}")
    try:
        return TuningArgs.from_wire(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise InvalidWorkspace("tuning", f"the job does not understand its arguments: {error}") from error


def check_data(args: TuningArgs) -> None:
    """Read data and config as the run would, but for what only the model can tell.

    Raises:
        KaitoRayError: they cannot be used, or not be had.
    """
    config = _config(args)
    with tempfile.TemporaryDirectory(prefix="kaito-data-") as scratch:
        source = _data_directory(args, RunDirectory(Path(scratch)))
        # Whether the model has a chat template is in the model; nearly every one that is tuned has.
        prepared = data.prepare(source, config.dataset, chat=True)
    data.check_evaluation(config, prepared)
    logger.info("the data is good: %d examples, %d held out", len(prepared.train), len(prepared.held_out))


def tune(args: TuningArgs) -> None:
    """Make the adapter that `args` describe, unless it is there already, and deliver it."""
    config = _config(args)
    directory = run_directory(args)
    if not args.resume:
        shutil.rmtree(directory.root, ignore_errors=True)
    directory.root.mkdir(parents=True, exist_ok=True)
    if directory.report.exists():
        logger.info("the adapter of this run is finished, only its delivery is left")
    else:
        _make(args, config, directory)
    made = report.read(directory)
    print(TuningProgress(phase="Pushing", status=made.status).to_line(), flush=True)
    where = deliver.deliver(args, directory, made)
    print(TuningProgress(phase="Done", status=made.status.model_copy(update={"output": where})).to_line(), flush=True)


def _config(args: TuningArgs) -> TrainingConfig:
    return training_config.load(
        args.training_config,
        method=args.method,
        revision=args.source.revision,
        trust_remote_code=args.trust_remote_code,
    )


def _make(args: TuningArgs, config: TrainingConfig, directory: RunDirectory) -> None:
    print(TuningProgress(phase="Data", status=TuningStatus()).to_line(), flush=True)
    began = time.time()
    source = _data_directory(args, directory)
    weights = model.directory(args.source)
    tokenizer = model.tokenizer(weights, config, trust_remote_code=args.trust_remote_code)
    prepared = data.prepare(source, config.dataset, chat=bool(tokenizer.chat_template))
    data.check_evaluation(config, prepared)
    config = fitted(config, device=args.device, longest_tokens=data.longest_tokens(prepared, tokenizer))
    data.save(prepared, directory)

    # Only now: a cluster is not troubled with data that cannot be used.
    import ray

    from tuning import progress, train

    # Without an address in the environment it is a run of its own, never one on a cluster that happens to be there.
    ray.init(address=os.environ.get("RAY_ADDRESS", "local"), include_dashboard=None)
    try:
        with progress.printed(directory.progress):
            train.fit(train.Run(args, config, weights, directory))
    finally:
        ray.shutdown()
    report.write(args, config, prepared, directory, seconds=time.time() - began)


def _data_directory(args: TuningArgs, directory: RunDirectory) -> Path:
    if args.input.urls:
        allowed = [host for host in os.environ.get(ALLOW_VARIABLE, "").split(",") if host]
        return download.fetch(args.input.urls, directory.downloads, allow=allowed)
    if args.input.image:
        credentials = [on_this_machine(path) for path in args.input.credentials]
        return data_image.fetch(args.input.image, directory.image_data, credentials)
    if args.input.directory:
        there = on_this_machine(args.input.directory)
        if there.is_dir():
            return there
        raise InvalidWorkspace("tuning.input", f"there is no directory {args.input.directory!r} in the job's container")
    raise InvalidWorkspace("tuning.input", "name urls, an image or a volume with data")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
