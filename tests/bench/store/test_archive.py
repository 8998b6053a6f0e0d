import io
import json
import shutil
import tarfile
from dataclasses import replace

import pytest

from parbench.bench.cli.transfer import export, import_
from parbench.bench.record.run_record import Status
from parbench.bench.record.serialization import to_json
from parbench.bench.store.declarations import declare, keep, read_declarations
from parbench.bench.store.layout import RECORD as RECORD_FILE
from parbench.bench.store.leases import Leases
from parbench.bench.util.errors import UserError
from tests.support.commands import call
from tests.support.records import RECORD, with_spec
from tests.support.stores import put

SLOWER = replace(RECORD, cost=replace(RECORD.cost, train_seconds=99.0))


def content(store):
    return {path.relative_to(store.runs): path.read_bytes() for path in store.runs.rglob("*") if path.is_file()}


@pytest.fixture(params=["file", "folder"])
def bring(request, theirs, ours, tmp_path):
    """Import their store, as a file or as it is."""

    def call_import(*arguments):
        source = theirs.root
        if request.param == "file":
            source = tmp_path / "theirs.tar.gz"
            source.unlink(missing_ok=True)
            call(export, "--out", theirs.root, source)
        return call(import_, source, "--out", ours.root, *arguments)

    return call_import


def test_what_is_exported_arrives_whole(ours, theirs, bring):
    put(theirs)
    put(theirs, seed=2)
    put(theirs, replace(with_spec(seed=3), status=Status.ERROR, reason="it rained", metrics={}))
    put(ours, seed=4)
    before = content(ours)
    assert bring() == (0, "3 records imported, 0 already present\n")
    assert content(ours) == content(theirs) | before
    assert bring() == (0, "0 records imported, 3 already present\n")
    assert not [path for path in ours.root.iterdir() if path.name.startswith(".import")]


def test_declarations_travel_with_the_records_and_the_earliest_stays(ours, theirs, bring):
    put(theirs)
    early = declare(theirs, "a_claim", {"kind": "better"}, {"row": ["0" * 16]})
    late = replace(early, declared="2999-01-01T00:00:00+00:00")
    keep(ours, late)
    assert bring()[0] == 0
    assert list(read_declarations(ours)) == [early]
    spoilt = theirs.root / "declarations" / f"b-{'0' * 16}.json"
    spoilt.write_text("{}")
    code, text = bring()
    assert code == ("refused" in text)
    assert list(read_declarations(ours)) == [early]


@pytest.mark.parametrize(("take", "code", "kept"), [(None, 1, "ours"), ("ours", 0, "ours"), ("theirs", 0, "theirs")])
def test_two_records_of_one_run_are_reported_or_one_is_taken(ours, theirs, bring, take, code, kept):
    mine, yours = put(ours), put(theirs, SLOWER)
    found, message = bring(*(["--take", take] if take else []))
    assert found == code
    assert ours.load(RECORD.run_id) == (mine if kept == "ours" else yours)
    aside = list((ours.root / "aside").iterdir()) if (ours.root / "aside").exists() else []
    assert len(aside) == (take == "theirs")
    if take is None:
        assert f"not imported: {RECORD.run_id}" in message
        assert "ours accuracy 0.8125 of 2026-01-01T00:01:00+00:00, theirs accuracy 0.8125" in message


def test_adapters_may_be_left_out_and_come_later(ours, theirs, tmp_path):
    record = put(theirs)
    small, whole = tmp_path / "small.tar.gz", tmp_path / "whole.tar.gz"
    assert call(export, "--out", theirs.root, "--no-adapters", small)[0] == 0
    call(export, "--out", theirs.root, whole)
    assert call(import_, small, "--out", ours.root)[0] == 0
    assert ours.load(record.run_id) == record
    adapter = ours.runs / record.run_id / "adapter" / "adapter_model.safetensors"
    assert not adapter.exists()
    completed = "0 records imported, 0 already present, 1 completed with adapters or logits\n"
    assert call(import_, whole, "--out", ours.root) == (0, completed)
    assert adapter.read_bytes() == b"weights"
    assert call(import_, small, "--out", ours.root)[1] == "0 records imported, 1 already present\n"


def test_adapters_and_logits_from_two_archives_make_one_run(ours, theirs, tmp_path):
    record = put(theirs, logits=b"logits")
    parts = {name: tmp_path / f"{name}.tar.gz" for name in ("adapters", "logits")}
    for name, path in parts.items():
        call(export, "--out", theirs.root, f"--no-{name}", path)
        with tarfile.open(path) as archive:
            left_out = {"adapters": "/adapter/", "logits": "/logits.parquet"}[name]
            assert not [inside for inside in archive.getnames() if left_out in inside]
        assert call(import_, path, "--out", ours.root)[0] == 0
    assert content(ours) == content(theirs)
    assert ours.load(record.run_id) == record
    assert not (ours.root / "aside").exists() or not list((ours.root / "aside").iterdir())


def test_a_record_of_ours_that_cannot_be_read_is_replaced_and_kept_aside(ours, theirs, bring):
    mine, yours = put(ours), put(theirs, SLOWER)
    (ours.runs / mine.run_id / RECORD_FILE).write_text("{half")
    assert bring()[0] == 0
    assert ours.load(mine.run_id) == yours
    (aside,) = (ours.root / "aside").iterdir()
    assert (aside / RECORD_FILE).read_text() == "{half"


def test_a_file_that_was_changed_refuses_its_record_and_no_other(ours, theirs):
    bad, good = put(theirs), put(theirs, seed=2)
    for change, complaint in (
        (lambda folder: (folder / "predictions.parquet").write_bytes(b"better"), "changed (its checksum"),
        (lambda folder: (folder / "predictions.parquet").unlink(), 'lacks "predictions.parquet"'),
        (lambda folder: (folder / "extra").write_bytes(b""), 'holds "extra", which its record does not know'),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), 'holds a link, "link"'),
        (lambda folder: (folder / RECORD_FILE).write_text("[]"), "is not a record"),
    ):
        copy = theirs.root.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(theirs.root, copy)
        change(copy / "runs" / bad.run_id)
        code, message = call(import_, copy, "--out", ours.root)
        assert code == 1
        assert "refused: runs/" in message
        assert complaint in message
        assert [record.run_id for record in ours.scan()] == [good.run_id]


def test_what_cannot_be_read_is_left_out_of_an_export_aloud(theirs, tmp_path):
    put(theirs)
    (theirs.runs / "notes").mkdir()
    code, message = call(export, "--out", theirs.root, tmp_path / "file.tar.gz")
    assert code == 1
    assert "left out" in message
    assert "1 record written" in message


def test_a_run_that_is_being_done_is_not_touched(ours, theirs, bring):
    record = put(theirs)
    Leases(ours.root).take(record.run_id)
    code, message = bring()
    assert code == 1
    assert "being executed here at the moment" in message
    assert ours.load(record.run_id) is None


def entry(name, kind=tarfile.REGTYPE, link="", text=b"x"):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, len(text) if kind == tarfile.REGTYPE else 0
    return made, io.BytesIO(text)


RUN = "runs/0123456789abcdef"


@pytest.mark.parametrize(
    "bad",
    [
        entry("../outside"),
        entry("/outside"),
        entry("runs/../../outside"),
        entry(f"{RUN}/../../../outside"),
        entry("runs/outside"),
        entry("runs/0123456789abcdeX/file"),
        entry("leases/0123456789abcdef.json"),
        entry("lock.json"),
        entry("deployment/outside"),
        entry("deployment/0123456789abcdef/../../outside"),
        entry("deployment/0123456789abcdef/link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("declarations/outside"),
        entry(f"declarations/../a-{'0' * 16}.json"),
        entry(f"declarations/a-{'0' * 16}.json", tarfile.SYMTYPE, "/etc/passwd"),
        entry(f"{RUN}/link", tarfile.SYMTYPE, "/etc/passwd"),
        entry(f"{RUN}/link", tarfile.SYMTYPE, "record.json"),
        entry(f"{RUN}/link", tarfile.LNKTYPE, "/etc/passwd"),
        entry(f"{RUN}/pipe", tarfile.FIFOTYPE),
        entry(f"{RUN}/record.json/inside-of-a-file"),
        entry(f"{RUN}/device", tarfile.CHRTYPE),
    ],
    ids=lambda bad: f"{bad[0].name} {bad[0].type.decode()}",
)
def test_an_unsafe_file_is_refused_whole(ours, tmp_path, bad):
    file = tmp_path / "unsafe.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.addfile(*entry(f"{RUN}/record.json", text=to_json(RECORD).encode()))
        archive.addfile(*bad)
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match=r"nothing was imported from it|is not a complete file of bench export"):
        call(import_, file, "--out", ours.root)
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} == before
    assert list(ours.scan()) == []


@pytest.mark.parametrize("cut", [0, 1, 20, 200, -1, -9])
def test_half_a_file_is_a_sentence(ours, theirs, tmp_path, cut):
    put(theirs)
    file = tmp_path / "file.tar.gz"
    call(export, "--out", theirs.root, file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UserError, match="is not a complete file of bench export"):
        call(import_, file, "--out", ours.root)
    assert list(ours.scan()) == []


def test_what_is_not_there_or_there_already_is_a_sentence(ours, theirs, tmp_path):
    with pytest.raises(UserError, match="there is no"):
        call(import_, tmp_path / "nothing", "--out", ours.root)
    with pytest.raises(UserError, match="there is no"):
        call(import_, tmp_path / "nothing", "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="there are no runs"):
        call(export, "--out", theirs.root, tmp_path / "file.tar.gz")
    put(theirs)
    (tmp_path / "file.tar.gz").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        call(export, "--out", theirs.root, tmp_path / "file.tar.gz")
    assert (tmp_path / "file.tar.gz").read_text() == "mine"
    with pytest.raises(UserError, match=r"cannot write to .*: Not a directory"):
        call(export, "--out", theirs.root, tmp_path / "file.tar.gz" / "below.tar.gz")


def test_an_archive_contains_nothing_about_its_author(theirs, tmp_path):
    put(theirs)
    call(export, "--out", theirs.root, tmp_path / "file.tar.gz")
    with tarfile.open(tmp_path / "file.tar.gz") as archive:
        for found in archive:
            assert (found.uid, found.gid, found.uname, found.gname) == (0, 0, "", "")
            assert json.dumps(str(theirs.root)) not in found.name
