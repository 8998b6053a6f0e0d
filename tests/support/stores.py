"""Stores made of made-up records."""

from dataclasses import replace

from parbench.bench.record.deployment import AS_LOADED, Conversion, Deployment, Merge
from parbench.bench.record.serialization import to_json
from parbench.bench.store.deployments import adapter_digest, new_folder, read_deployment, write_deployment
from parbench.bench.store.layout import RECORD as RECORD_FILE
from parbench.bench.store.store import Store
from tests.support.records import RECORD, with_spec


def make_store(folder):
    store = Store(folder)
    store.prepare()
    return store


def put(store, record=RECORD, adapter=b"weights", logits=None, **changes):
    """Put a record into a store as a run does, with an adapter, predictions and, if given, logits."""
    record = replace(with_spec(record, **changes) if changes else record, files={})
    output = store.workspace(record.run_id) / "output"
    (output / "adapter").mkdir(parents=True)
    (output / "adapter" / "adapter_model.safetensors").write_bytes(adapter)
    (output / "predictions.parquet").write_bytes(b"predictions")
    if logits is not None:
        (output / "logits.parquet").write_bytes(logits)
    committed = store.commit(record, output)
    store.discard_workspace(record.run_id)
    return committed


def fill(store, count):
    """Put many records into a store, without files beside them."""
    for seed in range(count):
        record = with_spec(seed=seed)
        folder = store.runs / record.run_id
        folder.mkdir()
        (folder / RECORD_FILE).write_text(to_json(record))


def put_deployment(store, record, rows=b"rows", weights=b"factors", seconds=0.01):
    """Put what was measured of a record's adapter into a store, as `bench adapter measure` does."""
    found = Deployment(
        run_id=record.run_id,
        kind="LORA",
        rank=8,
        variant="",
        targets=("query",),
        whole_modules=("classifier",),
        adapter_bytes=7,
        merges=(Merge("float32", 1e-6, 3.0),),
        plain_peft="",
        switched="",
        mixed="",
        unmerged_seconds=seconds,
        merged_seconds=None,
        conversions=(Conversion(AS_LOADED, rows="as_loaded.parquet"), Conversion("8", (8, 8), 7, 0.1)),
        made="2026-01-02T00:00:00+00:00",
        adapter=adapter_digest(record),
    )
    with new_folder(store, record.run_id) as folder:
        (folder / "as_loaded.parquet").write_bytes(rows)
        (folder / "lora_8").mkdir()
        (folder / "lora_8" / "adapter_model.safetensors").write_bytes(weights)
        write_deployment(found, store, folder)
    return read_deployment(store, record)
