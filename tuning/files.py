"""Files of training data: which there are, and their rows one by one with the number that an editor shows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from kaito_ray.errors import InvalidWorkspace

FIELD: Final = "tuning.input"

Row = tuple[int, dict[str, Any]]
"""Number of the row, from 1 (of the line, in a file of lines), and its columns."""


class BadRow(ValueError):
    """A row cannot be read or used; the caller knows its file and number."""


def find(directory: Path, *, only: str | None = None, path: str | None = None) -> list[Path]:
    """Return the data files below `directory`, sorted by name.

    `only` keeps the files of one extension; `path` names one file or directory, relative or as the container sees it.

    Raises:
        InvalidWorkspace: there is none, or `path` leads out of `directory`.
    """
    root = directory if path is None else _below(directory, path)
    everything = (
        [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file() and not _hidden(p, root))
    )
    kinds = _READERS.keys() if only is None else {f".{only}"}
    usable = [file for file in everything if file.suffix.lower() in kinds]
    if not usable:
        there = ", ".join(file.name for file in everything[:5]) or "no file at all"
        raise InvalidWorkspace(FIELD, f"no {' '.join(sorted(kinds))} file among the data; there is {there}")
    return usable


def rows(file: Path) -> Iterator[Row]:
    """Yield the rows of `file`.

    Raises:
        BadRow: with the number in its words, where the file's form is broken.
    """
    yield from _READERS[file.suffix.lower()](file)


def _below(directory: Path, path: str) -> Path:
    # KAITO's configs name files as the container sees them: /mnt/data/file.
    inside = (directory / path.removeprefix("/mnt/data").lstrip("/")).resolve()
    if not inside.is_relative_to(directory.resolve()):
        raise InvalidWorkspace("tuning.config", f"DatasetConfig.dataset_path: {path!r} is not below /mnt/data")
    if not inside.exists():
        raise InvalidWorkspace("tuning.config", f"DatasetConfig.dataset_path: there is no {path!r} among the data")
    return inside


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _lines(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield number, _object(_parsed(line, f"line {number}"), f"line {number}")


def _json(file: Path) -> Iterator[Row]:
    text = file.read_text(encoding="utf-8-sig")
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            # Many a .json file holds one object a line.
            yield from _lines(file)
            return
        raise BadRow(f"line {error.lineno}: no JSON, {error.msg}") from error
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        document = lists[0] if len(lists) == 1 else [document]
    for number, item in enumerate(document, start=1):
        yield number, _object(item, f"row {number}")


def _csv(file: Path) -> Iterator[Row]:
    csv.field_size_limit(2**27)
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            for number, row in enumerate(reader, start=1):
                if None in row or None in row.values():
                    raise BadRow(f"row {number}: has another number of columns than the header")
                yield number, dict(row)
        except csv.Error as error:
            raise BadRow(f"line {reader.line_num}: {error}") from error


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(file) as table:
            yield from _batches(table.iter_batches(batch_size=1024))
    except pa.ArrowException as error:
        raise BadRow(f"is no parquet file that can be read: {error}") from error


def _arrow(file: Path) -> Iterator[Row]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(file)) as source:
            try:
                reader = pa.ipc.open_file(source)
                yield from _batches(reader.get_batch(i) for i in range(reader.num_record_batches))
            except pa.ArrowInvalid:
                # `datasets` writes the streaming form.
                source.seek(0)
                yield from _batches(pa.ipc.open_stream(source))
    except pa.ArrowException as error:
        raise BadRow(f"is no arrow file that can be read: {error}") from error


def _batches(batches: Iterator[Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRow(f"{where}: no JSON, {error.msg} at column {error.colno}") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRow(f"{where}: an object is expected, not {type(value).__name__}")
    return value


_READERS: Final[Mapping[str, Callable[[Path], Iterator[Row]]]] = {
    ".jsonl": _lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
EXTENSIONS: Final = frozenset(_READERS)
"""Of the files that we read."""
