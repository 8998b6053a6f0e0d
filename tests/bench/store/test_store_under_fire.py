"""A store on a disk that is full, read-only or forbidden, and one that others have written into."""

import os
import shutil
import subprocess

import pytest

from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.layout import RECORD as RECORD_FILE
from parbench.bench.store.status import store_status
from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock
from tests.support.records import with_spec
from tests.support.stores import make_store, put


@pytest.fixture
def mounted(tmp_path):
    """Mount a small file system in memory; options are those of ``mount -o``."""
    folders = []

    def mount(options):
        folder = tmp_path / f"disk-{len(folders)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def run(bench, tiny_data, tiny_model):
    def call(out, *arguments, methods="lora"):
        return bench(
            *("run", "--suite", "mini", "--tasks", "glue/sst2", "--model", tiny_model, "--data-root", tiny_data),
            *("--set", "train.max_steps=6", "--set", "train.max_length=32", "--set", "train.checkpoint_steps=2"),
            *("--methods", methods, "--seeds", "1", "--out", out, *arguments),
        )

    return call


def fill_up(disk, leave):
    """Write a file that leaves so many bytes of a disk."""
    state = os.statvfs(disk)
    (disk / "ballast").write_bytes(b"\0" * (state.f_bavail * state.f_frsize - leave))


@pytest.mark.parametrize(
    "leave", [0, 60 << 10, 250 << 10, *(pytest.param(size << 10, marks=pytest.mark.slow) for size in (12, 150))]
)
def test_a_disk_that_is_full_loses_nothing(mounted, run, leave):
    disk = mounted("size=20m")
    store = Store(disk / "store")
    assert run(store.root, "--no-isolate", methods="linear_probe").code == 0
    before = list(store.scan())
    fill_up(disk, leave)
    result = run(store.root, "--no-isolate")
    assert result.code in (1, 2), result.out
    assert "No space left on device" in result.out + result.err
    assert "Traceback" not in result.out + result.err
    assert [record for record in store.scan() if record.spec.method == "linear_probe"] == before
    assert not [record for record in store.scan() if isinstance(record, Unreadable)]
    (disk / "ballast").unlink()
    again = run(store.root, "--no-isolate")
    assert again.code == 0, again.err
    assert {record.status for record in store.scan()} == {Status.OK}
    assert not list((store.root / "leases").glob("*.json"))


def test_a_disk_that_is_full_ends_isolated_runs_with_a_sentence(mounted, run):
    disk = mounted("size=20m")
    store = make_store(disk / "store")
    (store.root / "leases").mkdir()
    fill_up(disk, 60 << 10)
    result = run(store.root)
    assert result.code in (1, 2)
    assert "No space left on device" in result.out + result.err
    assert "Traceback" not in result.out + result.err
    (disk / "ballast").unlink()
    assert run(store.root).code == 0


def test_a_read_only_store_can_be_read_and_refuses_a_run_with_a_sentence(mounted, run, bench):
    disk = mounted("size=20m")
    store = make_store(disk / "store")
    record = put(store)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    result = run(store.root)
    assert result.code == 2
    assert "Read-only file system" in result.err
    assert store.load(record.run_id) == record
    assert store_status(store).statuses == {Status.OK: 1}
    assert bench("show", record.run_id, "--out", store.root).code == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is allowed to root")
def test_a_folder_without_permission_is_a_sentence(tmp_path, run):
    store = make_store(tmp_path / "store")
    put(store)
    store.runs.chmod(0o500)
    try:
        result = run(store.root)
    finally:
        store.runs.chmod(0o700)
    assert result.code == 2
    assert "Permission denied" in result.err


def spoiled(store, record, kind):
    folder = store.runs / record.run_id
    path = folder / RECORD_FILE
    text = path.read_text()
    if kind == "half":
        path.write_text(text[: len(text) // 2])
    elif kind == "empty":
        path.write_text("")
    elif kind == "binary":
        path.write_bytes(bytes(range(256)) * 50)
    elif kind == "huge":
        path.write_text('{"a": [' + "1," * 2_000_000 + "1]}")
    elif kind == "deep":
        path.write_text("[" * 200_000)
    elif kind == "number":
        path.write_text(text.replace('"seed": ', f'"seed": {"9" * 5000}'))
    elif kind == "edited":
        path.write_text(text.replace("0.8125", "0.9125"))
    elif kind == "of another":
        shutil.copy(next(store.runs.glob(f"*/{RECORD_FILE}")), path)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "link to nothing":
        path.unlink()
        path.symlink_to("/nowhere/at/all")
    elif kind == "link to a device":
        path.unlink()
        path.symlink_to("/dev/null")
    elif kind == "link to itself":
        path.unlink()
        path.symlink_to(path)
    elif kind == "a file for a folder":
        shutil.rmtree(folder)
        folder.write_text("no folder")


KINDS = (
    *("half", "empty", "binary", "huge", "deep", "number", "edited", "of another", "folder"),
    *("link to nothing", "link to a device", "link to itself", "a file for a folder"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_stands_in_a_record_s_place_is_reported_and_done_again(tmp_path, kind):
    store = make_store(tmp_path / "store")
    records = sorted((put(store, seed=seed) for seed in range(3)), key=lambda record: record.run_id)
    first, _, last = records
    spoiled(store, last, kind)
    found = list(store.scan())
    assert [entry.run_id for entry in found if isinstance(entry, RunRecord)] == [
        record.run_id for record in records[:2]
    ]
    (bad,) = [entry for entry in found if isinstance(entry, Unreadable)]
    assert last.run_id in str(bad)
    assert "restore it, or move the folder away and run again" in str(bad)
    assert not store.is_done(last.run_id)
    standing = store_status(store)
    assert (standing.statuses.total(), standing.unreadable.count) == (2, 1)
    # Done again: what was there is moved aside, whatever it was.
    again = put(store, with_spec(seed=last.spec.seed))
    assert store.load(last.run_id) == again
    assert store.load(first.run_id) == first
    assert [path.name.partition("-")[0] for path in (store.root / "aside").iterdir()] == [last.run_id]


def test_a_pipe_in_a_record_s_place_does_not_hang(tmp_path):
    store = make_store(tmp_path / "store")
    record = put(store)
    path = store.runs / record.run_id / RECORD_FILE
    path.unlink()
    os.mkfifo(path)
    found = store.load(record.run_id)
    assert isinstance(found, Unreadable)
    assert "is not a file" in str(found)


def test_what_is_in_the_place_of_the_store_s_folders_is_a_sentence(tmp_path):
    for name in ("runs", "work"):
        root = tmp_path / f"store-{name}"
        root.mkdir()
        (root / name).write_text("")
        with pytest.raises(UserError, match="cannot write to"):
            Store(root).prepare()


@pytest.mark.parametrize("text", ['{"half', "[]", "\\x00", '{"a": 1}'])
def test_a_damaged_lock_of_revisions_is_a_sentence(tmp_path, text):
    store = make_store(tmp_path / "store")
    store.lock_file.write_text(text)
    with pytest.raises(UserError, match=r"lock\.json"):
        RevisionLock(store.lock_file).get("dataset", "anything")
