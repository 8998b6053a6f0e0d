"""`bench new`: packages that pass their own tests at once, and names that cannot be used."""

import importlib
import os
import shlex
import subprocess
import sys

import pytest
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

from parbench.bench.scaffold.package import new_package, write_package
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.tasks import TASKS
from tests.support.paths import SOURCE

NAMES = {"method": "new_tuner2", "task": "new_group/new_task"}


@pytest.fixture(params=["method", "task"])
def kind(request):
    return request.param


@pytest.fixture
def written(kind, bench, tmp_path):
    """The folder of a new package, made by the command."""
    result = bench("new", kind, NAMES[kind], "--to", tmp_path / "made")
    assert result.code == 0, result.err
    folder = tmp_path / "made" / NAMES[kind].replace("/", "_")
    assert str(folder) in result.out
    return folder


@pytest.fixture
def imported(written, monkeypatch):
    """The package's test module."""
    monkeypatch.syspath_prepend(str(written))
    yield importlib.import_module(f"test_{written.name}")
    for name in (written.name, f"test_{written.name}"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", ["task"], indirect=True)
def test_a_new_task_passes_its_test(imported):
    imported.test_it_keeps_the_contract()
    imported.test_the_classes_are_balanced()


@pytest.mark.parametrize("kind", ["method"], indirect=True)
def test_a_new_method_computes_its_formula(imported):
    imported.test_the_output_is_that_of_the_formula()


@pytest.mark.parametrize("kind", ["method"], indirect=True)
def test_the_test_of_a_new_method_can_fail(imported, monkeypatch):
    # Of the first import in this process, which peft keeps.
    layer = PEFT_TYPE_TO_TUNER_MAPPING[PeftType["NEW_TUNER2"]].tuner_layer_cls
    monkeypatch.setattr(layer, "update_output", lambda self, x, adapter: 2 * self.get_delta_weight(adapter)[:, 0])
    with pytest.raises(AssertionError, match="not close"):
        imported.test_the_output_is_that_of_the_formula()


def test_what_is_written_is_clean(written):
    """By the linter's usual rules, without this project's configuration."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", "--select", "E,F,B,UP,W"]
    done = subprocess.run([*command, str(written)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name in os.listdir(written) if "$" in (written / name).read_text()] == []


def installed(*command, cwd, site):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(SOURCE)]), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_package_passes_its_tests_and_is_listed_once_installed(kind, written, tmp_path):
    site = tmp_path / "site"
    assert "2 passed" in installed("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=written, site=site)
    pip = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", site]
    installed(*pip, written, cwd=tmp_path, site=tmp_path)
    listed = installed("-c", "from parbench.bench.cli import main; main()", "list", f"{kind}s", cwd=tmp_path, site=site)
    (line,) = (line for line in listed.splitlines() if line.startswith(NAMES[kind]))
    assert f"from the package parbench-{written.name.replace('_', '-')}" in line


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "Mine", "1st", "../evil", "/evil", "a/b", "a.b", "a-b", "-v", "_a", "a_", "a__b", "é", "a\n",
     "$name", "a;b", 'a"b', "x" * 41, "x" * 5000],
)  # fmt: skip
def test_a_hostile_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="cannot be the name of a method: give lower-case letters"):
        new_package("method", name, METHODS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b/c", "a//b", "/a", "a/", "a/B", "a/../b"])
def test_a_task_has_at_most_a_group_before_its_name(name):
    with pytest.raises(UserError, match="cannot be the name of a task"):
        new_package("task", name, TASKS)


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("method", "lora", 'there is a method called "lora" already'),
        ("method", "oft", 'there is a method called "oft" already'),
        ("task", "glue/sst2", 'there is a task called "glue/sst2" already'),
        ("task", "glue", '"glue" is a group of tasks'),
        ("task", "e2e_nlg/mine", '"e2e_nlg" is a task and not a group of tasks'),
        ("method", "lambda", "is a word of Python"),
        ("method", "match", "is a word of Python"),
        ("method", "json", 'there is a Python module "json" already'),
        ("task", "torch", 'there is a Python module "torch" already'),
    ],
)
def test_a_name_that_is_taken_is_refused(kind, name, why):
    with pytest.raises(UserError, match=why):
        new_package(kind, name, {"method": METHODS, "task": TASKS}[kind])


def test_what_is_said_to_be_typed_can_be_typed(bench, tmp_path):
    result = bench("new", "method", "mine", "--to", tmp_path / "with blanks")
    (line,) = [line for line in result.out.splitlines() if line.startswith("install it:")]
    assert shlex.split(line)[-1] == str(tmp_path / "with blanks" / "mine")


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_nothing_is_overwritten(bench, tmp_path, what):
    place = tmp_path / "mine"
    if what == "folder":
        place.mkdir()
        (place / "mine.py").write_text("a year of work")
    elif what == "file":
        place.write_text("a year of work")
    else:
        place.symlink_to(tmp_path / "nowhere")
    result = bench("new", "method", "mine", "--to", tmp_path)
    assert result.code == 2
    assert f'there is "{place}" already' in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    if what == "folder":
        assert (place / "mine.py").read_text() == "a year of work"
    elif what == "file":
        assert place.read_text() == "a year of work"


def test_a_folder_that_cannot_be_written_is_one_sentence(bench, tmp_path):
    (tmp_path / "taken").write_text("a file")
    result = bench("new", "task", "mine", "--to", tmp_path / "taken")
    assert result.code == 2
    assert f'cannot write to "{tmp_path / "taken"}"' in result.err


def test_half_a_package_is_removed(tmp_path, monkeypatch):
    def full(self, *arguments, **options):
        raise OSError(28, "No space left on device", str(self))

    package = new_package("method", "mine", METHODS)
    assert len(package.files) == 3
    files = package.files
    monkeypatch.setattr(type(package), "files", files)
    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_package(package, tmp_path)
    assert list(tmp_path.iterdir()) == []
