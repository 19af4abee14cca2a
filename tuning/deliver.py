"""The last step: the adapter goes to a registry, or to a directory of the author's."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

from kaito_ray.api.tuning_args import TuningArgs
from kaito_ray.errors import InvalidWorkspace, KaitoRayError
from tuning import image, push
from tuning.paths import RunDirectory, on_this_machine
from tuning.report import Report

_MODEL_ANNOTATION: Final = "sh.kaito.model.name"
_OURS: Final = "sh.kaito.tuning"


class PushFailed(KaitoRayError):
    """The adapter is made and kept; only its delivery did not work."""

    reason = "PushFailed"


def deliver(args: TuningArgs, directory: RunDirectory, report: Report) -> str:
    """Return where the adapter is now: `repository@digest`, or a directory.

    Raises:
        PushFailed: with the registry's words and what to do; nothing has to be tuned again.
        InvalidWorkspace: there is no destination.
    """
    if args.output.image:
        built = image.build(directory.adapter, provenance(args, report))
        credentials = on_this_machine(args.credentials) if args.credentials else None
        try:
            return asyncio.run(push.push(built, args.output.image, credentials))
        except KaitoRayError as error:
            raise PushFailed(
                f"tuning.output.image: {error}. The adapter is finished and kept; correct the image or its secret and "
                "start the job again: it only pushes"
            ) from error
    if args.output.directory:
        return _copy(directory, on_this_machine(args.output.directory), shown=args.output.directory)
    raise InvalidWorkspace("tuning.output", "name an image or a volume for the adapter")


def provenance(args: TuningArgs, report: Report) -> dict[str, str]:
    """Return where the adapter comes from, for the image's manifest."""
    known = {
        _MODEL_ANNOTATION: args.preset,
        f"{_OURS}.revision": args.source.revision or args.source.package or "",
        f"{_OURS}.method": args.method,
        f"{_OURS}.data-digest": report.data_digest,
        f"{_OURS}.workspace": f"{args.namespace}/{args.workspace}",
        f"{_OURS}.steps": str(report.status.steps),
        f"{_OURS}.loss": str(report.status.loss),
        **{f"{_OURS}.version.{name}": version for name, version in report.versions.items()},
    }
    return {key: value for key, value in known.items() if value}


def _copy(directory: RunDirectory, to: Path, *, shown: str) -> str:
    """Copy everything; the adapter's config comes last, for its presence says that the rest is there."""
    to.mkdir(parents=True, exist_ok=True)
    files = sorted(directory.adapter.iterdir(), key=lambda file: file.name == "adapter_config.json")
    for file in files:
        partial = to / f".{file.name}.partial"
        shutil.copyfile(file, partial)
        partial.replace(to / file.name)
    return shown
