"""Stores made of made-up records."""

from dataclasses import replace

from parbench.bench.record.serialization import to_json
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
