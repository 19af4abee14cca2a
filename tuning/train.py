"""The training loop: TRL's `SFTTrainer` in Ray Train's workers.

Ray Train starts the workers and their process group, restarts them when one is lost, and keeps checkpoints by the run's
name: the same job, started again, goes on where it was. All else (tokenising, masking, packing, the optimizer) is TRL's.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from kaito_ray.api.tuning_args import TuningArgs
from tuning import model
from tuning.config import TrainingConfig
from tuning.paths import ADAPTER_FILES, RunDirectory
from tuning.progress import TellCheckpoints

_WORKER_RESTARTS = 2
"""Lost nodes and spot machines are worth it; a fault of the run itself comes back each time, at its own price."""
_CHECKPOINTS_KEPT = 2
"""Where `save_total_limit` does not say."""
_LOOK_S = "1"
"""How often Ray Train looks at its workers. A report waits until the one before it was seen: at Ray's own 2 s, a short
run with ten checkpoints stands still for a tenth of its time."""
_WORKER_ENVIRONMENT = {
    # Ray Train replaces `print` by a logger; `datasets` captures what `dis` prints to compare functions, and would find
    # nothing (and its byte code in our log).
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Run:
    """Everything that a worker must know."""

    args: TuningArgs
    config: TrainingConfig
    model_directory: Path
    directory: RunDirectory


def fit(run: Run) -> None:
    """Tune; on return the adapter is in `run.directory.adapter`.

    Raises:
        ray.train.TrainingFailedError: workers failed more often than they are restarted.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _LOOK_S)
    cuda = run.args.device == "cuda"
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)) // run.args.workers)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(
            num_workers=run.args.workers,
            use_gpu=cuda,
            resources_per_worker={"GPU": 1} if cuda else {"CPU": cpus},
        ),
        run_config=RunConfig(
            name=run.directory.name,
            storage_path=str(run.directory.root.parent),
            failure_config=FailureConfig(max_failures=_WORKER_RESTARTS),
            checkpoint_config=CheckpointConfig(
                num_to_keep=run.config.training.get("save_total_limit") or _CHECKPOINTS_KEPT
            ),
            callbacks=[TellCheckpoints(run.directory.progress)],
            worker_runtime_env={"env_vars": _WORKER_ENVIRONMENT},
        ),
    )
    trainer.fit()


def _work(loop_config: dict[str, Any]) -> None:
    """Run in each worker."""
    from datasets import load_from_disk
    from transformers import PrinterCallback
    from transformers.utils.logging import disable_progress_bar
    from trl import SFTTrainer

    from tuning.callback import ReportProgress

    run: Run = loop_config["run"]
    disable_progress_bar()
    context = ray.train.get_context()
    held_out = run.directory.held_out
    checkpoint = ray.train.get_checkpoint()
    trainer = SFTTrainer(
        model=model.base_model(
            run.model_directory,
            run.config,
            device=run.args.device,
            device_index=context.get_local_rank(),
            trust_remote_code=run.args.trust_remote_code,
        ),
        args=sft_config(run, evaluate=held_out.exists(), resumed=checkpoint is not None),
        train_dataset=load_from_disk(run.directory.train),
        eval_dataset=load_from_disk(held_out) if held_out.exists() else None,
        processing_class=model.tokenizer(run.model_directory, run.config, trust_remote_code=run.args.trust_remote_code),
        peft_config=model.lora_config(run.config),
        callbacks=[ReportProgress(run.directory.progress, workspace=run.args.workspace, namespace=run.args.namespace)],
    )
    # It prints every report a second time.
    trainer.remove_callback(PrinterCallback)
    if checkpoint is None:
        trainer.train()
    else:
        with checkpoint.as_directory() as directory:
            trainer.train(resume_from_checkpoint=directory)
    if context.get_world_rank() == 0:
        with tempfile.TemporaryDirectory(prefix="kaito-tuning-") as scratch:
            _keep(trainer, run, Path(scratch))


def sft_config(run: Run, *, evaluate: bool, resumed: bool) -> Any:
    """Return TRL's config: the file's values, and what is the job's to say."""
    from trl import SFTConfig

    values = dict(run.config.training)
    dtype = model.dtype_name(run.config, device=run.args.device)
    values.setdefault("bf16", dtype == "bfloat16")
    values.setdefault("fp16", dtype == "float16" and run.args.device == "cuda")
    # Ray Train removes what is not kept, in step with its record.
    values["save_total_limit"] = None
    values.setdefault("eval_strategy", "epoch" if evaluate else "no")
    # For the curve to begin with the base model's loss; a resumed run has that behind it.
    values.setdefault("eval_on_start", evaluate and not resumed)
    if run.config.collator.pad_to_multiple_of:
        values["pad_to_multiple_of"] = run.config.collator.pad_to_multiple_of
    return SFTConfig(
        # Ray Train's own directory for this run: a checkpoint is written where it stays.
        output_dir=str(run.directory.root),
        report_to="none",
        disable_tqdm=True,
        use_cpu=run.args.device == "cpu",
        **values,
    )


def base_name(args: TuningArgs) -> str:
    """Return the name of the base model that the adapter carries: never a path of some machine."""
    return args.source.hub or args.preset


def _keep(trainer: Any, run: Run, scratch: Path) -> None:
    """Put the adapter and its history where they belong; a half-written one is never seen."""
    trainer.save_model(str(scratch))
    config_file = scratch / "adapter_config.json"
    # peft writes the directory that the model was loaded from, which means nothing elsewhere.
    named = {**json.loads(config_file.read_text()), "base_model_name_or_path": base_name(run.args)}
    config_file.write_text(json.dumps(named, indent=2, sort_keys=True))
    whole = run.directory.root / "adapter.partial"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    for name in ADAPTER_FILES:
        shutil.copyfile(scratch / name, whole / name)
    (whole / run.directory.history.name).write_text(json.dumps(trainer.state.log_history))
    shutil.rmtree(run.directory.adapter, ignore_errors=True)
    whole.rename(run.directory.adapter)
