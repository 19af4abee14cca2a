import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaito_ray.errors import InvalidWorkspace
from tuning.config import DatasetConfig, load
from tuning.data import check_evaluation, prepare

ASK = {"role": "user", "content": "q"}
TELL = {"role": "assistant", "content": "a"}
CONVERSATION = {"messages": [ASK, TELL]}
EXAMPLE = {"prompt": [ASK], "completion": [TELL]}
KEEP_ORDER = DatasetConfig(shuffle_dataset=False)


def _lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _json(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text(json.dumps(rows))


def _parquet(path: Path, rows: list[dict[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def _arrow_file(path: Path, rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _arrow_stream(path: Path, rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", _lines),
        ("a.json", _json),
        ("lines.json", _lines),
        ("a.parquet", _parquet),
        ("a.arrow", _arrow_file),
        ("stream.arrow", _arrow_stream),
    ],
)
def test_every_format_is_read(
    tmp_path: Path, name: str, write: Callable[[Path, list[dict[str, object]]], None]
) -> None:
    write(tmp_path / name, [CONVERSATION, CONVERSATION])
    assert prepare(tmp_path, KEEP_ORDER, chat=True).train == [EXAMPLE, EXAMPLE]


def test_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\nq,a\n"q, too","a\nb"\n')
    texts = [e["prompt"] + e["completion"] for e in prepare(tmp_path, KEEP_ORDER, chat=False).train]
    assert texts == ["q\n\na", "q, too\n\na\nb"]


def test_json_below_one_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"data": [CONVERSATION]}))
    assert prepare(tmp_path, KEEP_ORDER, chat=True).train == [EXAMPLE]


@pytest.mark.parametrize(
    ("row", "example"),
    [
        pytest.param({"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "a"}, id="TRL's own form stays"),
        pytest.param({"prompt": [ASK], "completion": [TELL]}, EXAMPLE, id="also as messages"),
        pytest.param({"instruction": "q", "context": "", "response": "a", "category": "x"}, EXAMPLE, id="Dolly"),
        pytest.param({"instruction": "q", "input": "", "output": "a"}, EXAMPLE, id="Alpaca"),
        pytest.param({"question": "q", "answer": "a"}, EXAMPLE, id="question and answer"),
        pytest.param({"prompt": "q", "response": "a"}, EXAMPLE, id="prompt and response"),
        pytest.param(
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, EXAMPLE, id="ShareGPT"
        ),
        pytest.param({"text": "t"}, {"text": "t"}, id="text"),
    ],
)
def test_every_shape_becomes_trls(tmp_path: Path, row: dict[str, object], example: dict[str, object]) -> None:
    _lines(tmp_path / "a.jsonl", [row])
    assert prepare(tmp_path, KEEP_ORDER, chat=True).train == [example]


def test_an_instructions_context_follows_it(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", [{"instruction": "q", "context": "c", "response": "a"}])
    assert prepare(tmp_path, KEEP_ORDER, chat=True).train[0]["prompt"][0]["content"] == "q\n\nc"


def test_each_answer_of_a_conversation_is_one_example(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", [{"messages": [{"role": "system", "content": "s"}, ASK, TELL, ASK, TELL]}])
    lengths = [len(example["prompt"]) for example in prepare(tmp_path, KEEP_ORDER, chat=True).train]
    assert lengths == [2, 4]


@pytest.mark.parametrize(
    ("config", "example"),
    [
        pytest.param({"messages_column": "talk"}, EXAMPLE, id="messages_column"),
        pytest.param({"context_column": "x", "response_column": "y"}, EXAMPLE, id="context and response"),
        pytest.param({"response_column": "y"}, {"text": "a"}, id="the response alone is text"),
    ],
)
def test_named_columns_are_honoured(tmp_path: Path, config: dict[str, str], example: dict[str, object]) -> None:
    _lines(tmp_path / "a.jsonl", [{"talk": [ASK, TELL], "x": "q", "y": "a"}])
    got = prepare(tmp_path, DatasetConfig(shuffle_dataset=False, **config), chat=True)
    assert got.train == [example]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        pytest.param('{"messages": []}\n', r"a\.jsonl row 1: a conversation is a list", id="an empty conversation"),
        pytest.param(
            json.dumps(CONVERSATION) + "\n{oops\n", r"a\.jsonl line 2: no JSON", id="broken JSON, by its line"
        ),
        pytest.param('{"text": "ok"}\n\n{"text": " "}\n', r"a\.jsonl row 3: column 'text'", id="an empty text"),
        pytest.param(
            '{"messages": [{"role": "user", "content": "q"}]}\n', "no answer of role assistant", id="no answer"
        ),
        pytest.param('{"messages": [{"role": "boss", "content": "q"}]}\n', "role 'boss'", id="an unknown role"),
        pytest.param('{"a": 1, "b": 2}\n', "columns a, b are no shape", id="unknown columns"),
        pytest.param("[1]\n", "an object is expected", id="a row that is none"),
        pytest.param("\n", "no rows", id="no rows at all"),
        pytest.param(
            '{"messages": 0}\n' * 9, r"row 5: .*and 4 more", id="many bad rows are counted, and the first named"
        ),
    ],
)
def test_bad_data_is_named(tmp_path: Path, lines: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(InvalidWorkspace, match=words):
        prepare(tmp_path, DatasetConfig(), chat=True)


def test_a_csv_row_of_another_width_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nq,a\nq\n")
    with pytest.raises(InvalidWorkspace, match=r"a\.csv row 2: has another number of columns"):
        prepare(tmp_path, DatasetConfig(), chat=True)


def test_a_broken_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(InvalidWorkspace, match=r"a\.parquet is no parquet file"):
        prepare(tmp_path, DatasetConfig(), chat=True)


def test_a_conversation_needs_a_chat_template(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", [CONVERSATION])
    with pytest.raises(InvalidWorkspace, match="chat_template"):
        prepare(tmp_path, DatasetConfig(), chat=False)


def test_no_file_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    with pytest.raises(InvalidWorkspace, match=r"there is notes\.md"):
        prepare(tmp_path, DatasetConfig(), chat=True)


def test_all_files_of_a_directory_are_used_and_hidden_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.jsonl", "sub/b.jsonl", ".c.jsonl.part", ".d.jsonl"):
        _lines(tmp_path / name, [CONVERSATION])
    got = prepare(tmp_path, DatasetConfig(), chat=True)
    assert (got.files, len(got.train)) == (("a.jsonl", "sub/b.jsonl"), 2)


def test_one_file_can_be_chosen_as_the_container_names_it(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", [CONVERSATION])
    _lines(tmp_path / "b.jsonl", [CONVERSATION])
    assert prepare(tmp_path, DatasetConfig(dataset_path="/mnt/data/b.jsonl"), chat=True).files == ("b.jsonl",)


@pytest.mark.parametrize("path", ["../secret", "/mnt/data/../../etc/passwd"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidWorkspace, match="not below /mnt/data"):
        prepare(tmp_path, DatasetConfig(dataset_path=path), chat=True)


def test_forms_are_not_mixed(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", [CONVERSATION])
    _lines(tmp_path / "b.jsonl", [{"text": "t"}])
    with pytest.raises(InvalidWorkspace, match=r"a\.jsonl has questions.*b\.jsonl has plain text"):
        prepare(tmp_path, DatasetConfig(), chat=True)


def test_the_split_is_the_same_each_time_and_loses_nothing(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", [{"text": str(i)} for i in range(20)])
    config = DatasetConfig(train_test_split=0.8)
    first, second = prepare(tmp_path, config, chat=True), prepare(tmp_path, config, chat=True)
    assert first == second
    assert (len(first.train), len(first.held_out)) == (16, 4)
    assert {e["text"] for e in first.train + first.held_out} == {str(i) for i in range(20)}
    assert [e["text"] for e in first.train] != [str(i) for i in range(16)]


def test_the_digest_depends_on_the_content(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", [{"text": "1"}])
    before = prepare(tmp_path, DatasetConfig(), chat=True).digest
    _lines(tmp_path / "a.jsonl", [{"text": "2"}])
    assert prepare(tmp_path, DatasetConfig(), chat=True).digest != before


def test_evaluation_needs_held_out_data(tmp_path: Path) -> None:
    _lines(tmp_path / "a.jsonl", [CONVERSATION])
    config = load({"TrainingArguments": {"eval_strategy": "epoch"}}, method="lora")
    with pytest.raises(InvalidWorkspace, match="train_test_split"):
        check_evaluation(config, prepare(tmp_path, config.dataset, chat=True))
