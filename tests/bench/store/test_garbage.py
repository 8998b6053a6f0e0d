import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from parbench.bench.cli.gc import gc
from parbench.bench.record.run_record import Status
from parbench.bench.store.garbage import Garbage, find_garbage, remove
from parbench.bench.store.leases import Leases
from parbench.bench.util.errors import UserError
from tests.support.commands import call
from tests.support.records import with_spec
from tests.support.stores import put


def checkpoint(store, run_id, size=1000):
    folder = store.workspace(run_id) / "checkpoint-2"
    folder.mkdir()
    (folder / "model").write_bytes(b"x" * size)
    return folder.parent


def everything(folder):
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_checkpoints_of_done_runs_go_and_all_else_stays(store):
    done = put(store)
    failed = put(store, replace(with_spec(seed=2), status=Status.TIMEOUT, reason="late"))
    finished, cut, given_up = (checkpoint(store, name) for name in (done.run_id, "a" * 16, failed.run_id))
    (store.work / "notes").mkdir()
    (store.root / "aside").mkdir()
    (store.root / "aside" / "old").write_text("kept")
    records = everything(store.runs)
    code, message = call(gc, "--out", store.root)
    assert code == 0
    assert "checkpoints; its run is done" in message
    assert "1,000 bytes freed" in message
    assert not finished.exists()
    assert cut.exists()
    assert given_up.exists()
    assert everything(store.runs) == records
    assert (store.root / "aside" / "old").exists()
    assert (store.work / "notes").exists()


def test_sizes_are_printed_in_a_suitable_unit():
    assert str(Garbage(Path("a"), "old", 167)) == "a (167 bytes): old"
    assert str(Garbage(Path("a"), "old", 3 * 2**20)) == "a (3.0 MiB): old"


def test_checkpoints_of_interrupted_runs_are_removed_on_request_unless_leased(store):
    cut, at_work = checkpoint(store, "a" * 16), checkpoint(store, "b" * 16)
    Leases(store.root).take("b" * 16)
    call(gc, "--out", store.root, "--unfinished")
    assert not cut.exists()
    assert at_work.exists()


def test_a_dry_run_removes_nothing(store):
    checkpoint(store, put(store).run_id)
    before = everything(store.root)
    code, message = call(gc, "--out", store.root, "--dry-run")
    assert code == 0
    assert "1,000 bytes would be freed" in message
    assert everything(store.root) == before


def test_what_another_process_has_begun_to_use_since_stays(store):
    folder = checkpoint(store, "a" * 16)
    (waste,) = find_garbage(store, unfinished=True)
    Leases(store.root).take("a" * 16)
    assert not remove(waste, store)
    assert folder.exists()


def test_stale_claims_go_and_living_ones_stay(store):
    leases = Leases(store.root)
    leases.take("a" * 16)
    leases.path("b" * 16).write_text("half of a le")
    call(gc, "--out", store.root)
    assert sorted(path.stem for path in (store.root / "leases").glob("*.json")) == ["a" * 16]


def test_what_writes_have_left_goes_when_it_is_old(store):
    new, old = (store.root / f".tuned.yaml-{digit * 32}" for digit in "ab")
    staging = store.root / f".import-{'c' * 32}"
    staging.mkdir()
    (staging / "part").write_text("part")
    for path in (new, old):
        path.write_text("half")
    hidden = store.root / ".hidden"
    hidden.write_text("the user's")
    for path in (old, staging, hidden):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    call(gc, "--out", store.root)
    assert (new.exists(), old.exists(), staging.exists(), hidden.exists()) == (True, False, False, True)


def test_the_files_of_slurm_jobs_that_are_over_go(store):
    folder = store.root / "slurm"
    folder.mkdir()
    over = [folder / f"12_3_{rest}" for rest in ("submitted.pkl", "0_log.out", "0_log.err", "0_result.pkl")]
    waiting = [folder / f"12_33_{rest}" for rest in ("submitted.pkl", "0_log.out")]
    for path in over + waiting:
        path.write_text("x")
        os.utime(path, (1, 1))
    call(gc, "--out", store.root)
    assert not any(path.exists() for path in over)
    assert all(path.exists() for path in waiting)


def test_a_link_is_neither_followed_nor_removed(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    run = put(store)
    (store.work / run.run_id).symlink_to(outside)
    inner = checkpoint(store, put(store, seed=2).run_id)
    (inner / "link").symlink_to(outside)
    call(gc, "--out", store.root)
    assert (outside / "file").read_text() == "mine"
    assert (store.work / run.run_id).is_symlink()
    assert not inner.exists()


def test_gc_of_what_is_not_a_store_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="is not a store"):
        call(gc, "--out", tmp_path)
