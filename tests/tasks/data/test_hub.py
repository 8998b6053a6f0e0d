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


def load(hub, tmp_path, pinned="pinned", **environment):
    variables = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **environment,
    }
    command = [sys.executable, "-c", LOAD, str(tmp_path / "lock.json"), pinned]
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
        error = load(hub, tmp_path, pinned, HF_ENDPOINT=address)["error"]
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
