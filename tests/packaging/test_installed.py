"""Installed in every way that pip knows, in a clean environment outside the repository, beside a hostile project.

The environments are light: they see the third-party packages of the running one by a path file, and nothing of its
parbench.
"""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PACKAGES = ("bench", "methods", "reports", "tasks")
THIRD_PARTY = Path(str(importlib.util.find_spec("typer").origin)).parents[1]
WAYS = ("wheel", "sdist", "wheel of the sdist", "editable")


def run(*command, cwd, code=0, **environment):
    """Return what a command prints; it must end with ``code``."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "COLUMNS": "160", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A copy of what a checkout has, without anything that was built or downloaded."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder)
    for name in (".src", *PACKAGES):
        built = shutil.ignore_patterns("__pycache__", ".*_cache")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=built)
    return folder


def build(source, kind, out):
    """Build with the backend of the running environment, without the network."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out, cwd=source)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="session")
def wheel(source, tmp_path_factory):
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(source, tmp_path_factory):
    return build(source, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel_of_sdist(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return build(unpacked, "wheel", tmp_path_factory.mktemp("second-wheel"))


class Environment:
    """A virtual environment with parbench in it."""

    def __init__(self, folder: Path, *installed: object) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.python = folder / "bin" / "python"
        self.bench = folder / "bin" / "bench"
        self.site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        # Not processed as a site folder: the path files in it, that of an editable parbench among them, stay inert.
        (self.site / "third_party.pth").write_text(f"{THIRD_PARTY}\n")
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "install"]
        offline = ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
        run(*pip, *offline, *installed, cwd=folder)


@pytest.fixture(scope="session", params=WAYS)
def installed(request, source, wheel, sdist, wheel_of_sdist, tmp_path_factory):
    what = {
        "wheel": [wheel],
        "sdist": [sdist],
        "wheel of the sdist": [wheel_of_sdist],
        "editable": ["--editable", source],
    }
    return Environment(tmp_path_factory.mktemp("environment"), *what[request.param])


@pytest.fixture
def project(tmp_path):
    """A user's project whose names are those of our packages, and whose modules must not be imported by us."""
    for name in (*PACKAGES, "datasets", "parbench_like"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"print('imported the user\\'s {name}')\n")
    (tmp_path / "bench.py").write_text("print('imported the user\\'s bench.py')\n")
    (tmp_path / "script.py").write_text(
        "from parbench.methods.loca import LocaConfig\n"
        "print(LocaConfig.__module__)\n"
        "import parbench.bench.cli, parbench.methods, parbench.tasks, parbench.reports\n"
    )
    return tmp_path


@pytest.mark.parametrize("environment", [{}, {"PYTHONPATH": "."}])
def test_a_project_with_our_folder_names_gets_ours(installed, project, environment):
    printed = run(installed.python, "script.py", cwd=project, **environment)
    assert printed.splitlines() == ["parbench.methods.loca.config"]
    assert "lora" in run(installed.bench, "list", "methods", cwd=project, **environment)
    assert "imported the user's" not in run(installed.bench, "--version", cwd=project, **environment)


def test_a_command_that_loads_everything_finds_the_libraries_beside_such_a_project(wheel, project, tmp_path_factory):
    environment = Environment(tmp_path_factory.mktemp("environment"), wheel)
    asked = ("run", "--suite", "mini", "--methods", "lora", "--tasks", "glue/sst2", "--dry-run")
    printed = run(environment.bench, *asked, cwd=project, PYTHONPATH=".")
    assert "imported the user's" not in printed
    assert "3 runs" in printed


def test_the_user_can_import_their_own_modules(installed, project):
    assert run(installed.python, "-c", "import bench, tasks", cwd=project).splitlines() == [
        "imported the user's bench",
        "imported the user's tasks",
    ]


def test_a_folder_called_datasets_is_not_imported_by_listing(installed, project):
    for what in ("methods", "tasks", "models", "suites"):
        assert "imported the user's" not in run(installed.bench, "list", what, cwd=project)


def test_nothing_of_ours_is_imported_when_python_starts(installed, project):
    code = "import sys; print([name for name in sys.modules if name.partition('.')[0] == 'parbench'], sys.meta_path)"
    printed = run(installed.python, "-c", code, cwd=project)
    assert printed.startswith("[] ")
    assert "DeclareMissingOperators" not in printed


def test_every_registered_name_can_be_found(installed, tmp_path):
    code = (
        "from importlib.util import find_spec\n"
        "from parbench.bench.models.catalogue import MODELS\n"
        "from parbench.methods import METHODS\n"
        "from parbench.tasks import TASKS\n"
        "modules = {registry.entry(name).module for registry in (METHODS, TASKS, MODELS) for name in registry}\n"
        "print(sorted(m for m in modules if m.startswith('parbench.') and find_spec(m) is None), len(modules) > 20)\n"
    )
    assert run(installed.python, "-c", code, cwd=tmp_path).split() == ["[]", "True"]


def files_of(path):
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_the_wheel_holds_our_packages_whole_and_nothing_beside(wheel, wheel_of_sdist, source):
    names = files_of(wheel)
    assert files_of(wheel_of_sdist) == names
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"parbench", next(top for top in tops if top.endswith(".dist-info"))}
    assert not [name for name in names if name.endswith(".pth")]
    expected = {
        f"parbench/{path.relative_to(source)}"
        for package in PACKAGES
        for path in (source / package).rglob("*")
        # The environment of the editable installation compiles modules beside their source.
        if path.is_file() and "__pycache__" not in path.parts
    } | {f"parbench/{name}" for name in ("__init__.py", "api.py", "py.typed")}
    assert {name for name in names if name.startswith("parbench/")} == expected
    for kind in ("suites/mini.yaml", ".css", ".html", "presets/", "claims/loca_step_time.yaml"):
        assert [name for name in names if kind in name], kind


def test_entry_points_keep_their_groups(wheel, project):
    """Packages of others announce methods and tasks under these names."""
    declared = tomllib.loads((ROOT / "tests" / "example_package" / "pyproject.toml").read_text())["project"]
    assert set(declared["entry-points"]) == {"parbench.methods", "parbench.tasks"}
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert archive.read(name).decode().split() == [
            "[console_scripts]",
            "bench",
            "=",
            "parbench.bench.__main__:main",
        ]


def test_an_outside_package_adds_its_method_and_task(wheel, tmp_path):
    environment = Environment(tmp_path / "environment", wheel, ROOT / "tests" / "example_package")
    assert "gate" in run(environment.bench, "list", "methods", cwd=tmp_path)
    assert "example/majority" in run(environment.bench, "list", "tasks", cwd=tmp_path)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_bare_name_is_refused_with_the_right_one(source, package):
    """Before anything of ours is imported: a clean environment may have no parbench at all."""
    refused = run(sys.executable, "-S", "-c", f"import {package}", cwd=source, code=1)
    assert refused.splitlines()[-1] == (
        f'ImportError: this folder is imported as "parbench.{package}", not as "{package}"'
    )
