import importlib
import sys

import pytest

from parbench.bench.util import source_hash as source_hash_module
from parbench.bench.util.source_hash import source_hash


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``gadgets`` whose module ``a`` imports ``b`` at the top and ``sub.c`` inside a function."""
    folder = tmp_path / "gadgets"
    (folder / "sub").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "a.py": "import json\nfrom gadgets.b import x\ndef f():\n    from gadgets.sub import c\n    return c\n",
        "b.py": "x = 1\n",
        "sub/__init__.py": "",
        "sub/c.py": "y = 1\n",
        "unrelated.py": "z = 1\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    source_hash.cache_clear()
    yield folder
    source_hash.cache_clear()
    sys.modules.pop("gadgets", None)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("a.py", True),
        ("b.py", True),
        ("sub/c.py", True),
        ("sub/__init__.py", True),
        ("unrelated.py", False),
        ("__init__.py", False),
    ],
)
def test_the_version_changes_with_what_the_module_imports_and_with_nothing_else(package, file, changes):
    before = source_hash("gadgets.a")
    (package / file).write_text((package / file).read_text() + "# changed\n")
    source_hash.cache_clear()
    assert (source_hash("gadgets.a") != before) == changes


def test_a_module_of_another_package_counts_its_own_init_if_named_and_what_it_builds_on(package):
    (package / "__init__.py").write_text("from gadgets.b import x\n")
    before = source_hash("gadgets")
    (package / "b.py").write_text("x = 2\n")
    source_hash.cache_clear()
    assert source_hash("gadgets") != before

    (package / "b.py").write_text("from parbench.methods.lora import Lora\nfrom parbench.tasks.glue import SST2\n")
    source_hash.cache_clear()
    counted = source_hash_module._closure(["gadgets"], {"gadgets", "parbench.methods", "parbench.tasks"})
    assert {"parbench.methods.lora", "parbench.methods.base", "parbench.tasks.glue"} < counted.keys()


def test_code_without_source_is_an_error(package):
    with pytest.raises(ValueError, match="no source"):
        source_hash("gadgets.gone")


def test_it_imports_nothing(package):
    source_hash("gadgets.a")
    assert "gadgets.a" not in sys.modules


def test_every_method_and_task_of_ours_has_a_version():
    from parbench.methods import METHODS
    from parbench.tasks import TASKS

    loca = source_hash(METHODS.entry("loca").module)
    assert loca != source_hash(METHODS.entry("lora").module)
    assert all(len(source_hash(TASKS.entry(name).module)) == 16 for name in TASKS)
