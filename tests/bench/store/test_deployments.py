"""What was measured of adapters: kept beside the runs, checked, and carried between stores."""

import json
import shutil
import tarfile
from dataclasses import replace

import pytest

from parbench.bench.cli.transfer import export, import_
from parbench.bench.record.deployment import Deployment
from parbench.bench.store.deployments import folder_of, read_deployment, read_deployments
from tests.support.commands import call
from tests.support.records import RECORD
from tests.support.stores import put, put_deployment


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("source", ["file", "folder"])
def test_measurements_travel_with_their_runs(ours, theirs, tmp_path, source):
    record = put(theirs)
    put(theirs, seed=2)
    found = put_deployment(theirs, record)
    assert set(found.files) == {"as_loaded.parquet", "lora_8/adapter_model.safetensors"}
    file = tmp_path / "all.tar.gz"
    assert call(export, "--out", theirs.root, file)[0] == 0
    origin = file if source == "file" else theirs.root
    known = "2 records imported, 0 already present, 1 measurement of adapters\n"
    assert call(import_, origin, "--out", ours.root) == (0, known)
    assert content(ours.root / "deployment") == content(theirs.root / "deployment")
    assert list(read_deployments(ours)) == [found]
    assert call(import_, origin, "--out", ours.root) == (0, "0 records imported, 2 already present\n")


def test_without_adapters_the_rows_travel_and_converted_adapters_come_later(ours, theirs, tmp_path):
    record = put(theirs)
    found = put_deployment(theirs, record)
    small, whole = tmp_path / "small.tar.gz", tmp_path / "whole.tar.gz"
    assert call(export, "--out", theirs.root, "--no-adapters", "--no-logits", small)[0] == 0
    with tarfile.open(small) as archive:
        names = [name for name in archive.getnames() if name.startswith("deployment/")]
    home = f"deployment/{record.run_id}"
    assert names == [f"{home}/as_loaded.parquet", f"{home}/deployment.json"]
    call(export, "--out", theirs.root, whole)
    assert call(import_, small, "--out", ours.root)[0] == 0
    assert list(read_deployments(ours)) == [found]
    assert call(import_, whole, "--out", ours.root)[0] == 0
    assert content(ours.root / "deployment") == content(theirs.root / "deployment")
    # An export of what was imported without adapters leaves nothing out that is there.
    assert call(export, "--out", ours.root, tmp_path / "again.tar.gz")[0] == 0


def changed(folder, **values):
    path = folder / "deployment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


FAULTS = {
    "holds a link": lambda folder: (folder / "link").symlink_to("/etc/passwd"),
    'holds "extra", which was not measured': lambda folder: (folder / "extra").write_bytes(b""),
    'lacks "as_loaded.parquet"': lambda folder: (folder / "as_loaded.parquet").unlink(),
    'holds "as_loaded.parquet" changed': lambda folder: (folder / "as_loaded.parquet").write_bytes(b"better"),
    "changed (its checksum": lambda folder: (folder / "lora_8" / "adapter_model.safetensors").write_bytes(b"x"),
    "cannot be read": lambda folder: (folder / "deployment.json").write_text("{"),
    "is of another run": lambda folder: changed(folder, run_id="0" * 16),
    "is of an earlier execution of the run": lambda folder: changed(folder, adapter="0" * 64),
    'names "../../lock.json", which is outside of it': lambda folder: changed(folder, files={"../../lock.json": ""}),
    "which are not among its files": lambda folder: changed(
        folder, conversions=[{"target": "8", "rows": "../../lock.json"}]
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_measurement_is_refused_and_its_run_is_not(ours, theirs, tmp_path, fault):
    record = put(theirs)
    put_deployment(theirs, record)
    FAULTS[fault](folder_of(theirs, record.run_id))
    code, text = call(import_, theirs.root, "--out", ours.root)
    assert code == 1
    assert f"refused: deployment/{record.run_id}" in text
    assert fault in text
    assert ours.load(record.run_id) == record
    assert not (ours.root / "deployment").exists()
    code, text = call(export, "--out", theirs.root, tmp_path / "file.tar.gz")
    assert code == 1
    assert fault in text
    with tarfile.open(tmp_path / "file.tar.gz") as archive:
        assert not [name for name in archive.getnames() if name.startswith("deployment")]


def test_a_report_reads_no_measurement_that_is_not_of_its_rows(theirs):
    record = put(theirs)
    put_deployment(theirs, record)
    shutil.copytree(folder_of(theirs, record.run_id), folder_of(theirs, "0" * 16))
    (folder_of(theirs, record.run_id) / "as_loaded.parquet").write_bytes(b"better")
    first, second = read_deployments(theirs)
    assert first == f"deployment/{'0' * 16} is not of a run of the store"
    assert second.startswith(f'deployment/{record.run_id} holds "as_loaded.parquet" changed')


@pytest.mark.parametrize("take", [None, "ours", "theirs"])
def test_of_two_measurements_of_one_run_none_is_lost(ours, theirs, take):
    record = put(theirs)
    put(ours)
    mine, yours = put_deployment(ours, record, seconds=1.0), put_deployment(theirs, record, seconds=2.0)
    code, text = call(import_, theirs.root, "--out", ours.root, *(["--take", take] if take else []))
    assert code == (take is None)
    assert ("was measured here, too, and differs" in text) is (take is None)
    assert read_deployment(ours, record) == (yours if take == "theirs" else mine)
    aside = list((ours.root / "aside").iterdir()) if (ours.root / "aside").exists() else []
    assert [path.name.rpartition("-")[0] for path in aside] == (
        [f"deployment-{record.run_id}"] if take == "theirs" else []
    )


def test_a_run_that_is_executed_again_is_to_be_measured_again(theirs):
    record = put(theirs)
    assert isinstance(put_deployment(theirs, record), Deployment)
    again = put(theirs, replace(RECORD, metrics={"accuracy": 0.9}), adapter=b"other weights")
    found = read_deployment(theirs, again)
    assert "is of an earlier execution of the run; repeat bench adapter measure" in found
    assert isinstance(put_deployment(theirs, again), Deployment)


def test_a_conflict_of_records_leaves_the_measurements_apart(ours, theirs):
    mine, yours = put(ours), put(theirs, replace(RECORD, metrics={"accuracy": 0.9}), adapter=b"other weights")
    put_deployment(theirs, yours)
    assert call(import_, theirs.root, "--out", ours.root)[0] == 1
    assert not (ours.root / "deployment").exists()
    put_deployment(ours, mine)
    assert call(import_, theirs.root, "--out", ours.root, "--take", "theirs")[0] == 0
    assert isinstance(read_deployment(ours, yours), Deployment)
