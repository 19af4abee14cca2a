"""From a directory of files to the examples that are trained on and those that are held out.

All of it happens before a worker starts: data that cannot be used costs no GPU time.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kaito_ray.errors import InvalidWorkspace
from tuning import files
from tuning.config import FIELD as CONFIG_FIELD
from tuning.config import DatasetConfig, TrainingConfig
from tuning.files import FIELD, BadRow
from tuning.paths import RunDirectory
from tuning.shapes import Example, Shape, examples, recognise

_REPORTED: Final = 5
"""Bad rows that are named; more would bury them."""
_TEXT_LIMIT: Final = 2**16
"""Characters; more than any sequence that is packed."""


@dataclass(frozen=True)
class Data:
    """Everything that a run learns from."""

    train: list[Example]
    held_out: list[Example]
    """Empty where nothing is held out."""
    digest: str
    """`sha256:...` over names and contents of the files."""
    files: tuple[str, ...]
    """Their names, below the data directory."""


def prepare(directory: Path, config: DatasetConfig, *, chat: bool) -> Data:
    """Return the examples of all files below `directory`, shuffled and split as `config` says.

    `chat`: the tokenizer has a chat template.

    Raises:
        InvalidWorkspace: no file, no usable row, or bad rows; each is named by file and number.
    """
    found = files.find(directory, only=config.dataset_extension, path=config.dataset_path)
    collected: list[Example] = []
    forms: dict[str, str] = {}
    bad: list[str] = []
    for file in found:
        name = _name(file, directory)
        read = _read(file, name, config, chat=chat, bad=bad)
        for example in read:
            forms.setdefault(_form(example), name)
        collected += read
    if bad:
        more = f", and {len(bad) - _REPORTED} more" if len(bad) > _REPORTED else ""
        raise InvalidWorkspace(FIELD, "; ".join(bad[:_REPORTED]) + more)
    if not collected:
        raise InvalidWorkspace(
            FIELD, f"{', '.join(_name(f, directory) for f in found)}: no rows, nothing to learn from"
        )
    if len(forms) > 1:
        words = ", ".join(f"{name} has {form}" for form, name in forms.items())
        raise InvalidWorkspace(FIELD, f"all data must be of one form, but {words}; tune on one of them")
    train, held_out = _split(collected, config)
    return Data(train, held_out, _digest(found, directory), tuple(_name(file, directory) for file in found))


def check_evaluation(config: TrainingConfig, data: Data) -> None:
    """Refuse a config that evaluates on data that is not held out.

    Raises:
        InvalidWorkspace: it does.
    """
    if config.training.get("eval_strategy", "no") != "no" and not data.held_out:
        raise InvalidWorkspace(
            CONFIG_FIELD,
            "TrainingArguments.eval_strategy needs held-out data; set DatasetConfig.train_test_split below 1",
        )


def longest_tokens(data: Data, tokenizer: Any) -> int:
    """Return how many tokens the longest example has, at most `_TEXT_LIMIT` characters of it looked at."""
    return max(_tokens(example, tokenizer) for example in (*data.train, *data.held_out))


def save(data: Data, directory: RunDirectory) -> None:
    """Write the examples where workers read them."""
    from datasets import Dataset

    Dataset.from_list(data.train).save_to_disk(directory.train)
    if data.held_out:
        Dataset.from_list(data.held_out).save_to_disk(directory.held_out)


def _read(file: Path, name: str, config: DatasetConfig, *, chat: bool, bad: list[str]) -> list[Example]:
    shape: Shape | None = None
    read: list[Example] = []
    try:
        for number, row in files.rows(file):
            try:
                shape = shape or recognise(row.keys(), config)
                read += examples(row, shape, chat=chat)
            except BadRow as error:
                bad.append(f"{name} row {number}: {error}")
                if shape is None:
                    # No row of this file can be understood, and saying so for each helps nobody.
                    break
    except (BadRow, UnicodeDecodeError) as error:
        bad.append(f"{name} {error}")
    return read


def _tokens(example: Example, tokenizer: Any) -> int:
    if isinstance(example.get("prompt"), list):
        text = tokenizer.apply_chat_template([*example["prompt"], *example["completion"]], tokenize=False)
    else:
        text = "".join(str(example.get(part, "")) for part in ("prompt", "completion", "text"))
    return len(tokenizer(text[:_TEXT_LIMIT], add_special_tokens=False)["input_ids"]) + 1


def _form(example: Example) -> str:
    if "text" in example:
        return "plain text"
    return "questions and answers as " + ("messages" if isinstance(example["prompt"], list) else "raw text")


def _split(all_: Sequence[Example], config: DatasetConfig) -> tuple[list[Example], list[Example]]:
    order = list(range(len(all_)))
    if config.shuffle_dataset:
        # Reproducible chance, no secret.
        random.Random(config.shuffle_seed).shuffle(order)  # noqa: S311 - the same order on every machine is the point
    held = 0
    if config.train_test_split < 1 and len(order) > 1:
        held = min(max(1, round(len(order) * (1 - config.train_test_split))), len(order) - 1)
    split = len(order) - held
    return [all_[i] for i in order[:split]], [all_[i] for i in order[split:]]


def _digest(found: Sequence[Path], directory: Path) -> str:
    total = hashlib.sha256()
    for file in found:
        with file.open("rb") as content:
            total.update(f"{_name(file, directory)}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _name(file: Path, directory: Path) -> str:
    return str(file.relative_to(directory)) if file.is_relative_to(directory) else file.name
