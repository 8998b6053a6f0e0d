import gzip
import json
import re

import pyarrow as pa
import pytest
from pyarrow import parquet

from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.glue import MNLI, SST2

ROWS = [{"sentence": 'He said "no",\nthen left', "label": 1}, {"sentence": "NA", "label": 0}]


def write(path, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    table = pa.Table.from_pylist(ROWS)
    if kind == ".parquet":
        parquet.write_table(table, path)
        return
    if ".csv" in kind:
        lines = b'sentence,label\n"He said ""no"",\nthen left",1\nNA,0\n'
    path.write_bytes(gzip.compress(lines, mtime=0) if kind.endswith(".gz") else lines)


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".json", ".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("folder", ["glue-sst2", "glue/sst2"])
def test_every_kind_of_file_reads_the_same(tmp_path, kind, folder):
    for split in ("train", "validation"):
        write(tmp_path / folder / f"{split}{kind}", kind)
    source = FolderSource(tmp_path)
    assert source.missing(SST2.data) is None
    loaded = source.load(SST2.data)
    assert {name: SST2.check(data, name).to_list() for name, data in loaded.items()} == {
        "train": ROWS,
        "validation": ROWS,
    }


def hub_files(folder, split, parts):
    for number, rows in enumerate(parts):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{split}-{number:05d}-of-{len(parts):05d}.parquet"
        parquet.write_table(pa.Table.from_pylist(rows), folder / name)


def test_a_download_of_the_hub_is_read_whole_and_in_order(tmp_path):
    rows = [{"sentence": f"text {number}", "label": number % 2} for number in range(7)]
    folder = tmp_path / "glue" / "sst2"
    hub_files(folder, "train", [rows[:3], rows[3:6], rows[6:]])
    hub_files(folder, "validation", [rows[:2]])
    source = FolderSource(tmp_path)
    assert source.missing(SST2.data) is None
    loaded = source.load(SST2.data)
    assert loaded["train"].to_list() == rows
    assert loaded["validation"].to_list() == rows[:2]
    assert len(source.paths(SST2.data)) == 4
    before = source.revision(SST2.data)
    hub_files(folder, "train", [rows[:3], rows[2:5], rows[6:]])
    assert source.revision(SST2.data) != before


def test_a_download_that_lacks_a_part_or_has_two_is_refused(tmp_path):
    folder = tmp_path / "glue-sst2"
    for split in ("train", "validation"):
        hub_files(folder, split, [ROWS, ROWS])
    (folder / "train-00000-of-00002.parquet").unlink()
    lost = '"train-00000-of-00002.parquet" is not in ".*", where other parts of the split train are'
    assert re.fullmatch(lost, FolderSource(tmp_path).missing(SST2.data))
    hub_files(folder, "train", [ROWS, [{"sentence": "x", "label": "good"}]])
    with pytest.raises(UserError, match=r"columns of other names or types than .*label .string.*label .int64"):
        FolderSource(tmp_path).load(SST2.data)
    hub_files(folder, "train", [ROWS])
    with pytest.raises(UserError, match=r"could be any of train-[*]-of-00001.parquet, train-[*]-of-00002.parquet"):
        FolderSource(tmp_path).load(SST2.data)


def test_the_revision_is_the_content(tmp_path):
    for split in ("train", "validation"):
        write(tmp_path / "glue-sst2" / f"{split}.csv", ".csv")
    before = FolderSource(tmp_path).revision(SST2.data)
    assert FolderSource(tmp_path).revision(SST2.data) == before
    (tmp_path / "glue-sst2" / "train.csv").write_text("sentence,label\nx,0\n")
    assert FolderSource(tmp_path).revision(SST2.data) != before


def test_a_part_of_a_split_is_found_by_its_longer_name(tmp_path):
    folder = tmp_path / "glue-mnli"
    folder.mkdir()
    for name in ("train", "validation_matched", "validation_mismatched_1000"):
        (folder / f"{name}.csv").write_text("premise,hypothesis,label\na,b,0\n")
    assert FolderSource(tmp_path).missing(MNLI.data) is None


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, 'no folder "glue-sst2"'),
        ({"train.csv": b"sentence,label\na,0\n"}, "there is no validation file"),
        ({"train.csv": b"", "train.jsonl": b"", "validation.csv": b""}, "has several train files"),
        ({"train.jsonl": b'{"sentence": "a", "lab', "validation.jsonl": b"{}"}, "cannot be read as .jsonl"),
        ({"train.jsonl.gz": gzip.compress(b'{"a": 1}\n' * 99)[:20], "validation.jsonl": b"{}"}, "cannot be read as"),
        ({"train.jsonl.gz": b"not gzip", "validation.jsonl": b"{}"}, "cannot be read as .jsonl.gz"),
        ({"train.parquet": b"PAR1 cut off", "validation.parquet": b""}, "cannot be read as .parquet"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(tmp_path, files, complaint):
    for name, content in files.items():
        (tmp_path / "glue-sst2").mkdir(exist_ok=True)
        (tmp_path / "glue-sst2" / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        FolderSource(tmp_path).load(SST2.data)


@pytest.mark.parametrize(
    ("label", "complaint"),
    [(2, "unknown label 2"), (-1, "unknown label -1"), (0.5, "unknown label 0.5"), (None, "no label")],
)
def test_labels_that_the_task_does_not_have_are_refused(tmp_path, label, complaint):
    (tmp_path / "glue-sst2").mkdir()
    for split in ("train", "validation"):
        text = json.dumps({"sentence": "a", "label": label}) + "\n"
        (tmp_path / "glue-sst2" / f"{split}.jsonl").write_text(text)
    (data,) = [d for name, d in FolderSource(tmp_path).load(SST2.data).items() if name == "train"]
    with pytest.raises(UserError, match=complaint):
        SST2.check(data, "train")


def test_labels_may_be_given_by_name(tmp_path):
    (tmp_path / "glue-sst2").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "glue-sst2" / f"{split}.csv").write_text("sentence,label\na,positive\nb,negative\n")
    data = FolderSource(tmp_path).load(SST2.data)["train"]
    assert SST2.check(data, "train")["label"][:] == [1, 0]
