import errno
import hashlib
import json
import os
import shutil
from dataclasses import replace

import pytest

from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.layout import RECORD as RECORD_FILE
from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.errors import UserError
from parbench.bench.util.files import write_atomically
from tests.support.records import RECORD, with_spec


def commit(store, record=RECORD):
    output = store.workspace(record.run_id) / "output"
    output.mkdir()
    (output / "adapter").mkdir()
    (output / "adapter" / "weights").write_bytes(b"weights")
    return store.commit(record, output)


def test_a_committed_run_is_there_whole(store):
    record = commit(store)
    assert store.load(RECORD.run_id) == record
    assert store.is_done(RECORD.run_id)
    assert record.files == {"adapter/weights": hashlib.sha256(b"weights").hexdigest()}
    assert list(store.scan()) == [record]


def test_an_unknown_run_is_none(store):
    assert store.load("0" * 16) is None


def test_a_failed_run_is_there_and_not_done(store):
    commit(store, replace(RECORD, status=Status.ERROR, reason="why", metrics={}))
    assert isinstance(store.load(RECORD.run_id), RunRecord)
    assert not store.is_done(RECORD.run_id)


def test_a_run_done_again_moves_its_earlier_record_aside(store):
    first = commit(store)
    second = commit(store, replace(RECORD, reason="again"))
    assert store.load(RECORD.run_id) == second
    (aside,) = (store.root / "aside").iterdir()
    assert json.loads((aside / RECORD_FILE).read_text())["reason"] == first.reason


def test_a_half_written_record_is_reported_and_nothing_else_suffers(store):
    good = commit(store)
    bad = commit(store, with_spec(seed=2))
    path = store.runs / bad.run_id / RECORD_FILE
    path.write_text(path.read_text()[:300])
    found = list(store.scan())
    assert good in found
    (unreadable,) = [entry for entry in found if isinstance(entry, Unreadable)]
    assert str(path) in str(unreadable)
    assert "is not whole JSON" in str(unreadable)
    assert "run again" in str(unreadable)
    assert not store.is_done(bad.run_id)


def test_foreign_things_in_the_store_are_reported(store):
    (store.runs / "notes.txt").write_text("hello")
    (store.runs / "empty").mkdir()
    good = commit(store)
    os.rename(store.runs / good.run_id, store.runs / "renamed")
    reasons = {entry.path.name: entry.reason for entry in store.scan()}
    assert reasons["notes.txt"] == "is not a run's folder"
    assert reasons["empty"] == "has no record.json"
    assert reasons["renamed"] == f"holds the record of run {good.run_id}"


def test_a_run_is_found_by_the_first_digits_of_its_id(store):
    record = commit(store)
    assert store.find(record.run_id[:5]) == record


@pytest.mark.parametrize(("prefix", "complaint"), [("zz", "no run begins with"), ("", "no run begins with")])
def test_a_wrong_id_is_a_sentence(store, prefix, complaint):
    commit(store)
    with pytest.raises(UserError, match=complaint):
        store.find(prefix)


def test_a_wrong_id_is_not_answered_with_a_thousand(store):
    ids = [commit(store, with_spec(seed=seed)).run_id for seed in range(13)]
    with pytest.raises(UserError, match=r'no run begins with "zz".*; there are 13$'):
        store.find("zz")
    shutil.rmtree(store.runs / ids[0])
    with pytest.raises(UserError, match=f"; there is: .*{ids[1]}"):
        store.find("zz")


def test_an_ambiguous_id_is_a_sentence(store):
    ids = [commit(store, with_spec(seed=seed)).run_id for seed in range(40)]
    doubled = next(first for first in (run_id[0] for run_id in ids) if sum(i.startswith(first) for i in ids) > 1)
    with pytest.raises(UserError, match=f'runs begin with "{doubled}"'):
        store.find(doubled)


def test_a_store_of_runs_that_were_cut_off_is_a_sentence(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    (store.work / "0123").mkdir()
    with pytest.raises(UserError, match=r"no run in .* is done yet; the command that started them resumes them"):
        store.require()


def test_nothing_to_read_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"there are no runs in .*--out"):
        Store(tmp_path / "nothing").find("a")


def test_a_store_in_the_place_of_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file.*Not a directory.*another --out"):
        Store(tmp_path / "file" / "store").prepare()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_is_a_sentence_and_the_store_stays_as_it_was(store, monkeypatch, code):
    before = commit(store)

    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    output = store.workspace("next") / "output"
    output.mkdir()
    monkeypatch.setattr("parbench.bench.store.store.os.replace", refuse)
    with pytest.raises(UserError, match=os.strerror(code)):
        store.commit(with_spec(seed=9), output)
    assert list(store.scan()) == [before]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def crash(*args, **kwargs):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("parbench.bench.store.store.os.fsync", crash)
    with pytest.raises(OSError, match="full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
