import json
from dataclasses import asdict, fields, replace

import pytest

from parbench.bench.record.run_record import Status
from parbench.bench.record.run_spec import RunSpec, digest
from parbench.bench.record.serialization import from_json, to_json
from tests.support.records import RECORD, SPEC

CHANGED = {
    "protocol": "other",
    "task": "glue/rte",
    "base_model": "roberta-base",
    "method": "loca",
    "setting": {"r": 4},
    "training": {"max_steps": 101},
    "budget": {"asked": "24k", "parameters": 24000, "mode": "uniform"},
    "seed": 2,
    "limit": 10,
    "data_revision": "sha256:3",
    "model_revision": "sha256:4",
    "method_code": "d",
    "task_code": "e",
    "harness_code": "f",
    "purpose": "selection",
    "repeat": 1,
    "options": {"num_beams": 4},
    "definition": {"name": "mine"},
    "train_fraction": 0.5,
    "evaluation_limit": 5,
    "retention": "sha256:5",
    "base_precision": "nf4",
}
DESCRIPTIVE = {"suite": "other", "small": False, "data_source": "elsewhere"}


def test_every_field_of_a_spec_is_either_identity_or_description():
    assert {field.name for field in fields(RunSpec)} == {*CHANGED, *DESCRIPTIVE}


@pytest.mark.parametrize("name", CHANGED)
def test_what_determines_the_result_changes_the_id(name):
    assert replace(SPEC, **{name: CHANGED[name]}).run_id != SPEC.run_id


@pytest.mark.parametrize("name", DESCRIPTIVE)
def test_what_only_describes_does_not(name):
    assert replace(SPEC, **{name: DESCRIPTIVE[name]}).run_id == SPEC.run_id


def test_fields_that_came_later_left_the_ids_as_they_were():
    later = {"purpose", "repeat", "options", "definition", "train_fraction", "evaluation_limit", "retention"}
    later.add("base_precision")
    earlier = {name: value for name, value in asdict(SPEC).items() if name not in {*DESCRIPTIVE, *later}}
    assert SPEC.run_id == digest(earlier)[:16]


def test_the_id_does_not_depend_on_the_order_of_a_setting():
    assert replace(SPEC, setting=dict(reversed(SPEC.setting.items()))).run_id == SPEC.run_id


def test_a_record_reads_back_as_it_was_written():
    assert from_json(to_json(RECORD)) == RECORD


def test_a_failed_run_is_a_record_too():
    failed = replace(RECORD, status=Status.OUT_OF_MEMORY, reason="too big", metrics={}, ledger=None, cost=None)
    assert from_json(to_json(failed)) == failed
    assert failed.score is None


def resealed(**changes):
    content = {**json.loads(to_json(RECORD)), **changes}
    del content["sha256"]
    return json.dumps({**content, "sha256": digest(content)})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (to_json(RECORD)[:200], "is not whole JSON"),
        ("[]", "is not a record"),
        ("{}", "is not a record"),
        (to_json(RECORD).replace("0.8125", "0.9125"), "was changed after it was written"),
        (resealed(format=99), "is not of record format 1"),
        (resealed(metrics={"accuracy": "high"}), "wrong field metrics.accuracy"),
        (resealed(status="fine"), "wrong field status"),
        (resealed(extra=1), "wrong field extra"),
        (resealed(run_id="0" * 16), "says it is run 0000000000000000"),
    ],
)
def test_what_is_not_a_whole_unedited_record_is_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_json(text)
