"""Pins and locks, against a stand-in for the hub; in their own processes: the hub's address is read at import."""

import json
import os
import socket
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.glue import REVISION
from tests.support.hub_stub import serving

HEAD, LATER = "a" * 40, "b" * 40

LOAD = """
import json, sys
from dataclasses import replace
from pathlib import Path
from parbench.bench.util.errors import UserError
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.glue import SST2
data = SST2.data
if sys.argv[2] == "unpinned":
    data = replace(data, hub=replace(data.hub, revision=None))
source = HubSource(RevisionLock(Path(sys.argv[1])))
try:
    rows = {name: len(split) for name, split in source.load(data).items()}
    print(json.dumps({"rows": rows, "revision": source.revision(data)}))
except UserError as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "repository" / "sst2"
    folder.mkdir(parents=True)
    for split, rows in (("train", 30), ("validation", 10), ("test", 5)):
        table = pa.table({"sentence": ["x"] * rows, "label": [n % 2 for n in range(rows)], "idx": list(range(rows))})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    configs = "configs:\n- config_name: sst2\n  data_files:\n" + "".join(
        f"  - split: {split}\n    path: sst2/{split}-*\n" for split in ("train", "validation", "test")
    )
    (folder.parent / "README.md").write_text(f"---\n{configs}---\n")
    with serving(folder.parent, HEAD) as stand_in:
        yield stand_in


def load(hub, tmp_path, pinned="pinned", script=LOAD, **environment):
    variables = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **environment,
    }
    command = [sys.executable, "-c", script, str(tmp_path / "lock.json"), pinned]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_pinned_dataset_is_read_at_its_commit(hub, tmp_path):
    found = load(hub, tmp_path)
    assert found == {"rows": {"train": 30, "validation": 10}, "revision": REVISION}
    downloads = [line for line in hub.asked if "/resolve/" in line and line.endswith(".parquet")]
    assert downloads
    assert all(f"/resolve/{REVISION}/" in line for line in downloads)
    assert not (tmp_path / "lock.json").exists()
    # What is here once is read without the network from then on.
    assert load(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")["rows"] == found["rows"]


def test_an_unpinned_dataset_is_locked_to_the_commit_first_seen(hub, tmp_path):
    assert load(hub, tmp_path, "unpinned")["revision"] == HEAD
    assert RevisionLock(tmp_path / "lock.json").get("dataset", "nyu-mll/glue") == HEAD
    hub.head = LATER
    hub.asked.clear()
    assert load(hub, tmp_path, "unpinned", HF_HOME=str(tmp_path / "another"))["revision"] == HEAD
    downloads = [line for line in hub.asked if "/resolve/" in line and line.endswith(".parquet")]
    assert downloads
    assert all(f"/resolve/{HEAD}/" in line for line in downloads)


@pytest.mark.parametrize("pinned", ["pinned", "unpinned"])
def test_no_network_and_no_copy_is_a_sentence(hub, tmp_path, pinned):
    error = load(hub, tmp_path, pinned, HF_HUB_OFFLINE="1")["error"]
    assert error.startswith('cannot get "nyu-mll/glue')
    assert "there is no local copy of it; connect to the network, give local files (--data-root" in error


@pytest.mark.parametrize("pinned", ["pinned", "unpinned"])
def test_a_hub_that_nothing_answers_for_is_a_sentence(hub, tmp_path, pinned):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and never listens: the connection is refused
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        # Without the waits between the attempts, of which there are several.
        script = f"import time; time.sleep = lambda seconds: None\n{LOAD}"
        error = load(hub, tmp_path, pinned, script, HF_ENDPOINT=address)["error"]
    assert error.startswith('cannot get "nyu-mll/glue')
    assert "there is no local copy of it; connect to the network" in error


def test_auto_goes_past_a_hub_that_nothing_answers_for(tmp_path, monkeypatch):
    import httpx2
    from huggingface_hub import HfApi

    from parbench.tasks.data.hub import obstacle

    def refuse(*arguments, **options):
        raise httpx2.ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr(HfApi, "model_info", refuse)
    assert obstacle("nobody/has-this") == "nobody/has-this is not in the local cache and the hub cannot be reached"


def test_a_damaged_lock_is_a_sentence(tmp_path):
    from parbench.bench.util.errors import UserError

    path = tmp_path / "lock.json"
    for text in ("{", "[]", '{"dataset:a/b": 1}'):
        path.write_text(text)
        with pytest.raises(UserError, match="delete it to lock again"):
            RevisionLock(path).get("dataset", "a/b")


def test_a_lock_keeps_what_it_has(tmp_path):
    lock = RevisionLock(tmp_path / "deep" / "lock.json")
    assert lock.get("model", "a/b") is None
    lock.put("model", "a/b", HEAD)
    lock.put("dataset", "a/b", LATER)
    assert lock.get("model", "a/b") == HEAD
    assert lock.get("dataset", "a/b") == LATER


LOAD_TEXT = """
import json, sys
from parbench.bench.util.errors import UserError
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.source import DataRef, HubDataset
data = DataRef("mine", "train", {"": "test"}, HubDataset("a/b", revision="a" * 40))
try:
    splits = HubSource(RevisionLock(sys.argv[1])).load(data)
    names = {name: getattr(one, "names", None) for name, one in splits["train"].features.items()}
    print(json.dumps({"rows": {split: rows[:] for split, rows in splits.items()}, "names": names}))
except UserError as error:
    print(json.dumps({"error": str(error)}))
"""
# What a guess of types would change or drop.
TEXTS = ["02116", "1.50", "NA", "null", "true", "2024-01-31", "12345678901234567890", "43", "+49", ""]
LABELS = (
    "dataset_info:\n  features:\n  - {name: text, dtype: string}\n  - name: label\n    dtype: {class_label: {names: "
)
LABELS += "{'0': neg, '1': pos}}}\n"


def write(folder, kind, head="", **files):
    folder.mkdir()
    configs = "configs:\n- config_name: default\n  data_files:\n"
    configs += "".join(f"  - {{split: {split.partition('_')[0]}, path: '{split}*'}}\n" for split in files)
    (folder / "README.md").write_text(f"---\n{configs}{head}---\n")
    for split, texts in files.items():
        rows = [(text, number % 2) for number, text in enumerate(texts)]
        if kind == "csv":
            lines = ["text,label", *(f'"{text}",{label}' for text, label in rows)]
        elif kind == "tsv":
            lines = ["text\tlabel", *(f"{text}\t{label}" for text, label in rows)]
        else:
            lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (folder / f"{split}.{kind}").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_text_files_keep_their_characters(tmp_path, kind):
    write(tmp_path / "repository", kind, train=TEXTS, test=TEXTS[:4])
    with serving(tmp_path / "repository", HEAD) as hub:
        found = load(hub, tmp_path, script=LOAD_TEXT)["rows"]
        assert {split: rows["text"] for split, rows in found.items()} == {"train": TEXTS, "test": TEXTS[:4]}
        offline = load(hub, tmp_path, script=LOAD_TEXT, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert offline["rows"] == found


def test_declared_class_names_of_text_files_are_kept(tmp_path):
    write(tmp_path / "repository", "csv", LABELS, train=TEXTS, test=TEXTS[:1])
    with serving(tmp_path / "repository", HEAD) as hub:
        found = load(hub, tmp_path, script=LOAD_TEXT)
    assert found["names"] == {"text": None, "label": ["neg", "pos"]}
    assert found["rows"]["train"]["label"] == [0, 1] * 5


def test_several_files_are_one_split(tmp_path):
    folder = tmp_path / "repository"
    write(folder, "csv", train=TEXTS[:3], test=TEXTS[:1])
    (folder / "train_2.csv").write_text("text,label\n7.0,1\n")
    with serving(folder, HEAD) as hub:
        found = load(hub, tmp_path, script=LOAD_TEXT)["rows"]
    assert found["train"] == {"text": [*TEXTS[:3], "7.0"], "label": ["0", "1", "0", "1"]}


def test_files_that_are_to_be_read_in_another_way_are_refused(tmp_path):
    folder = tmp_path / "repository"
    write(folder, "csv", train=TEXTS, test=TEXTS)
    readme = (folder / "README.md").read_text()
    (folder / "README.md").write_text(
        readme.replace("- config_name: default\n", "- config_name: default\n  skiprows: 1\n")
    )
    with serving(folder, HEAD) as hub:
        error = load(hub, tmp_path, script=LOAD_TEXT)["error"]
    assert "a/b has its files read with skiprows=1, which is not supported" in error


def test_a_cached_copy_with_guessed_types_is_refused(tmp_path):
    write(tmp_path / "repository", "csv", train=TEXTS, test=TEXTS)
    guessed = 'from datasets import load_dataset; load_dataset("a/b", revision="a" * 40); print("{}")'
    with serving(tmp_path / "repository", HEAD) as hub:
        load(hub, tmp_path, script=guessed)
        error = load(hub, tmp_path, script=LOAD_TEXT, HF_HUB_OFFLINE="1")["error"]
    assert "the local cache has only a copy in which the types of columns are guessed" in error
