"""Runs with made-up peaks of device memory."""

from dataclasses import replace

from parbench.bench.plan.names import AskedNames
from parbench.bench.plan.planned_run import PlannedRun
from parbench.tasks.data.location import DataLocation
from tests.support.records import with_spec

GIB = 2**30
NAME = "Made-up 80 (80 GiB)"
ASKED = AskedNames("lora", "glue/sst2", "minilm-l6")
LOCATION = DataLocation("hub", "lock.json")


def measured(peak, accelerator=NAME, **changes):
    record = with_spec(**changes)
    made = replace(record.provenance, hardware={"device": "cuda", "accelerator": accelerator})
    return replace(record, cost=replace(record.cost, reserved_device_bytes=peak), provenance=made)


def kept(store, record):
    output = store.workspace(record.run_id) / "output"
    output.mkdir()
    store.commit(record, output)
    store.discard_workspace(record.run_id)


def plan(ranks, seeds):
    specs = [with_spec(setting={"r": rank}, seed=seed).spec for rank in ranks for seed in range(seeds)]
    return [PlannedRun(spec, ASKED, LOCATION) for spec in specs]
