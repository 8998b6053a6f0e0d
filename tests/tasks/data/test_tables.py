"""The characters of a file are kept, whatever they look like, and only what a task uses is read."""

import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from parbench.bench.util.errors import UserError
from parbench.tasks.data.labels import class_ids
from parbench.tasks.data.source import Reads
from parbench.tasks.data.tables import as_dataset, read_table
from parbench.tasks.data.values import texts_of

ODD = [
    "02116", "1.50", "0x1F", "+49", "12345678901234567890", "True", "false", "2024-01-31", "12", "12.5", "43.0", "NA",
    "n/a", "null", "1e5", "-0", "inf", " x ", "00:01", "2024-01-31T10:00:00Z", "größe", "一二", "a\u2028b", "\x85",
]  # fmt: skip


def written(folder, kind, rows):
    path = folder / f"train{kind}"
    if kind == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    if ".csv" in kind:
        names = list(rows[0])
        lines = [",".join(names)] + [
            ",".join('"' + row[name].replace('"', '""') + '"' for name in names) for row in rows
        ]
        text = "\n".join(lines) + "\n"
    elif ".jsonl" in kind:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = json.dumps(rows, ensure_ascii=False)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if kind.endswith(".gz") else content)
    return path


KINDS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [ODD, *([value] * 3 for value in ODD)], ids=lambda values: values[0].strip())
@pytest.mark.parametrize("reads", [None, Reads(("text",), (("label",),))])
def test_text_is_kept_as_it_is(tmp_path, kind, values, reads):
    rows = [{"text": value, "label": "1"} for value in values]
    dataset = as_dataset(read_table(written(tmp_path, kind, rows), reads), tmp_path)
    assert texts_of(dataset, "text", "it") == list(values)


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".json", ".csv.gz", ".jsonl.gz"])
def test_a_byte_order_mark_is_read_over(tmp_path, kind):
    path = written(tmp_path, kind, [{"text": "a", "label": "b"}])
    content = gzip.decompress(path.read_bytes()) if kind.endswith(".gz") else path.read_bytes()
    marked = b"\xef\xbb\xbf" + content
    path.write_bytes(gzip.compress(marked) if kind.endswith(".gz") else marked)
    assert read_table(path).to_pylist() == [{"text": "a", "label": "b"}]


def test_numbers_of_json_keep_their_characters_where_text_is_wanted(tmp_path):
    path = tmp_path / "train.jsonl"
    for value in ("1.50", "43.0", "1e5", "12345678901234567890", "12", "true", "-0"):
        path.write_text(f'{{"text": {value}}}\n{{"text": "x"}}\n')
        assert read_table(path, Reads(("text",)))["text"].to_pylist() == [value, "x"]
        path.write_text(f'{{"text": {value}}}\n')
        assert read_table(path, Reads(("text",)))["text"].to_pylist() == [value]
    path.write_text('{"text": ["a", 1.50]}\n{"text": [2, "b"]}\n')
    assert read_table(path, Reads(("text",)))["text"].to_pylist() == [["a", "1.50"], ["2", "b"]]


def test_a_column_that_is_not_used_is_not_parsed(tmp_path):
    reads = Reads(("text",), (("label",),))
    rows = [{"text": "a", "label": "0"}]
    (tmp_path / "train.jsonl").write_text(
        '{"text": "a", "label": "0", "meta": "n/a"}\n{"text": "a", "label": "0", "meta": {"x": "\\ud800"}}\n'
    )
    assert read_table(tmp_path / "train.jsonl", reads).to_pylist() == rows * 2
    (tmp_path / "train.csv").write_text("text,label,,\na,0,1,2\n")
    assert read_table(tmp_path / "train.csv", reads).to_pylist() == rows
    odd = pa.array([1], pa.duration("s"))
    secret = pa.array([{"bytes": None, "path": "/etc/passwd"}])
    table = pa.table({"text": ["a"], "label": ["0"], "a.b": odd, "image": secret})
    unknown = {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Nonsense"}}}}).encode()}
    parquet.write_table(table.replace_schema_metadata(unknown), tmp_path / "train.parquet")
    path = tmp_path / "train.parquet"
    assert as_dataset(read_table(path, reads), path).to_list() == rows
    with pytest.raises(UserError, match="names a file in column image"):
        as_dataset(read_table(path), path)


def test_a_folder_called_like_a_value_is_not_a_column(tmp_path):
    folder = tmp_path / "label=7"
    folder.mkdir()
    assert read_table(written(folder, ".parquet", [{"text": "a"}])).column_names == ["text"]


def test_categories_of_pandas_are_read_by_their_names(tmp_path):
    table = pa.table({"label": pa.array(["pos", "neg"]).dictionary_encode()})
    parquet.write_table(table, tmp_path / "train.parquet")
    dataset = as_dataset(read_table(tmp_path / "train.parquet"), tmp_path)
    assert class_ids(dataset, "label", ["neg", "pos"], "it") == [1, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"text": "a"}\n{"text": ["a"]}\n', "has a text in row 1 and a list in row 2 of column text"),
        ('{"text": "a", "text": "b"}\n', 'line 1: an object has "text" twice'),
        ('{"text": "a"}\n{"text": "b"\n', "line 2, column 13"),
        ('{"text": "a"}\n["b"]\n', "line 2 does not begin with an object"),
        ('{"text": "\\ud800"}\n', r"half a character \(\\ud800\) in row 1, column text"),
        ('{"text": ["a"]}\n{"text": ["a", "b\\udc00"]}\n', r"half a character \(\\udc00\) in row 2, column text"),
        ('{"t\\ud83d": "a"}\n', r"half a character \(\\ud83d\) in the name of a column"),
    ],
)
def test_lines_of_json_that_are_none(tmp_path, lines, message):
    path = tmp_path / "train.jsonl"
    path.write_text(lines)
    with pytest.raises(UserError, match=message):
        read_table(path, Reads(("text",)))


def test_columns_of_json_keep_the_types_that_they_have_throughout(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(
        '{"whole": 1, "large": 18446744073709551615, "share": 0.5, "sure": true, "inner": {"a": [1], "b": "x"}}\n'
        '{"whole": null, "large": 0, "share": 2.25, "sure": false, "inner": null}\n'
    )
    table = read_table(path)
    assert [str(kind) for kind in table.schema.types[:4]] == ["int64", "uint64", "double", "bool"]
    assert table.to_pylist()[0]["inner"] == {"a": [1], "b": "x"}
    assert table.to_pylist()[1] == {"whole": None, "large": 0, "share": 2.25, "sure": False, "inner": None}
