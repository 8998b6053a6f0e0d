import dataclasses
import resource
import time
from dataclasses import replace

import pytest

from parbench.bench.cli.status import status
from parbench.bench.record.code_hashes import harness_code, method_code
from parbench.bench.record.run_record import Status
from parbench.bench.store.leases import Leases
from parbench.bench.store.staleness import Newest, Superseding, stale_reasons
from parbench.bench.store.status import store_status
from parbench.bench.train.checkpoints import COMPLETE
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.tasks import find_task, task_code
from tests.support.commands import call
from tests.support.records import RECORD, SPEC, with_spec
from tests.support.stores import fill, make_store, put


@pytest.fixture
def present():
    """The spec of a run that the present source would make."""
    return replace(
        SPEC,
        method_code=method_code(find_method("lora")),
        task_code=task_code(find_task("glue/sst2")),
        harness_code=harness_code(),
    )


def test_what_the_present_source_would_make_is_not_stale(present):
    assert stale_reasons(present) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method_code": "0" * 16}, "the code of lora has changed"),
        ({"task_code": "0" * 16}, "the code of glue/sst2 has changed"),
        ({"harness_code": "0" * 16}, "the code that trains has changed"),
        ({"method": "lora_of_old"}, "the method lora_of_old no longer exists"),
        ({"method": "lora+gone(2)"}, "the method lora+gone(2) no longer exists"),
        ({"task": "glue/sst3"}, "the task glue/sst3 no longer exists"),
    ],
)
def test_a_stale_record_gives_the_reason(present, change, reason):
    assert stale_reasons(replace(present, **change)) == (reason,)


def test_the_modifiers_of_a_method_are_code_too(present):
    modified = replace(present, method="lora+qv_ratio(8)", method_code=method_code(find_method("lora+qv_ratio(8)")))
    assert stale_reasons(modified) == ()
    assert stale_reasons(replace(modified, method_code=present.method_code)) == (
        "the code of lora+qv_ratio(8) has changed",
    )


def test_a_task_of_a_file_is_judged_by_its_definition(present, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\ngood,yes\nbad,no\n")
    (tmp_path / "test.csv").write_text("text,label\nwell,yes\n")
    (tmp_path / "task.yaml").write_text(
        "name: my/words\nkind: classification\nreference: {title: Words, year: 2026, venue: own data}\n"
        "licence: own\ndata: {folder: ., train: train.csv, reported: test.csv}\ntexts: [text]\nlabel: label\n"
        "labels: ['no', 'yes']\nmetrics: [accuracy]\n"
    )
    task = find_task(str(tmp_path / "task.yaml"))
    spec = replace(present, task=task.name, definition=dict(task.definition), task_code=task_code(task))
    assert stale_reasons(spec) == ()
    assert stale_reasons(replace(spec, task_code="0" * 16)) == ("the code of my/words has changed",)
    broken = {**task.definition, "kind": "divination"}
    assert stale_reasons(replace(spec, definition=broken)) == ("the task my/words no longer exists",)


def finished(record, second):
    return replace(record, provenance=replace(record.provenance, finished=f"2026-01-01T00:01:{second:02}+00:00"))


def test_a_newer_record_of_other_code_or_revisions_supersedes():
    first = finished(RECORD, 1)
    second = finished(with_spec(method_code="f" * 16), 2)
    third = finished(with_spec(data_revision="sha256:" + "3" * 64), 3)
    other = finished(with_spec(seed=2), 4)
    failed = replace(finished(with_spec(task_code="e" * 16), 5), status=Status.ERROR, metrics={})
    for order in ([first, second, third, other, failed], [failed, other, third, second, first]):
        newest = Newest()
        for record in order:
            newest.add(record)
        assert dict(newest.superseded()) == {first.run_id: third.run_id, second.run_id: third.run_id}


def test_overwriting_stale_records_moves_them_aside_after_the_new_one(store):
    old = put(store)
    other = put(store, seed=2)
    superseding = Superseding(store)
    new = put(store, method_code="f" * 16)
    assert superseding.by(replace(new, status=Status.ERROR)) == []
    assert superseding.by(new) == [old.run_id]
    assert superseding.by(new) == []
    assert {record.run_id for record in store.scan()} == {new.run_id, other.run_id}
    (aside,) = (store.root / "aside").iterdir()
    assert aside.name.startswith(old.run_id)


def test_status_shows_completed_running_interrupted_failed_and_stale_runs(store, present):
    put(store, replace(RECORD, spec=present))
    put(store, seed=2)
    failed = put(store, replace(with_spec(seed=3), status=Status.ERROR, reason="it rained", metrics={}))
    (store.runs / "notes.txt").write_text("")
    leases = Leases(store.root)
    leases.take("a" * 16)
    store.workspace("a" * 16)
    (store.workspace("b" * 16) / "checkpoint-40").mkdir()
    (store.work / ("b" * 16) / "checkpoint-40" / COMPLETE).write_text("{}")
    (store.work / ("b" * 16) / "checkpoint-50").mkdir()
    store.workspace("c" * 16)
    found = store_status(store)
    assert found.statuses == {Status.OK: 2, Status.ERROR: 1}
    assert found.failed.examples == [f"{failed.run_id} {failed.spec}: error, it rained"]
    assert (found.stale.count, found.superseded.count, found.unreadable.count) == (2, 0, 1)
    code, message = call(status, "--out", store.root)
    assert code == 1
    assert "3 records in" in message
    assert "1 error, 2 ok" in message
    assert f"{'a' * 16}: process" in message
    assert f"{'b' * 16}: resumes from step 40" in message
    assert f"{'c' * 16}: has no checkpoint yet" in message
    assert "the code of lora has changed, the code of glue/sst2 has changed" in message
    assert "notes.txt is not a run's folder" in message


def test_status_names_the_first_of_many(store):
    fill(store, 30)
    code, message = call(status, "--out", store.root)
    assert code == 0
    assert "30 records" in message
    assert "and 10 more" in message
    assert "more; name" not in call(status, "--out", store.root, "--all")[1]


def test_status_of_what_is_not_a_store_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="is not a store"):
        call(status, "--out", tmp_path / "nothing")


def seconds(work):
    begin = time.process_time()
    work()
    return time.process_time() - begin


@pytest.mark.slow
def test_status_is_linear_in_the_records_and_bounded_in_memory(tmp_path):
    """Of 20,000 records it keeps some hundred bytes each: 100,000 are ten times 10,000 of these seconds."""
    small, large = make_store(tmp_path / "small"), make_store(tmp_path / "large")
    fill(small, 2_000)
    fill(large, 20_000)
    store_status(small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    short, long = seconds(lambda: store_status(small)), seconds(lambda: store_status(large))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"2,000 records in {short:.2f} s of CPU, 20,000 in {long:.2f} s, {grown / 20_000:.0f} bytes a record")  # noqa: T201
    assert long / short < 15
    assert grown < 20_000 * 3_000


def test_every_field_of_a_spec_is_either_identity_or_code():
    """A field that is new must be thought of when runs are compared across code."""
    from parbench.bench.store import staleness as stale

    known = {*stale._CODE, *stale._REVISIONS}
    fields = {field.name for field in dataclasses.fields(SPEC)}
    assert known < fields
    for name in fields - known - {"suite", "small", "data_source"}:
        changed = replace(SPEC, **{name: {"something": "else"}})
        assert stale._identity(changed) != stale._identity(SPEC), name
