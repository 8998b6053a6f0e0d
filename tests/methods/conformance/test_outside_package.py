"""A package with a method and a task of its own, installed beside parbench."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "example_package"
ROOT = EXAMPLE.parents[1]

USE = """
import sys
from pathlib import Path

import torch
torch.set_num_threads(1)

from methods import METHODS
from methods.testing import check_method
from tasks import TASKS
from tasks.data.folder import FolderSource

report = check_method(METHODS["gate"])
print(report)
report.raise_for_failures()

from parbench_example.majority import write
write(Path(sys.argv[1]))
task = TASKS["example/majority"]
splits = task.splits(FolderSource(Path(sys.argv[1])))
print(splits.sizes, task.head.labels)
"""


def entry_points(site: Path) -> dict[str, str]:
    """Return the entry points file of the one distribution in a folder, by line."""
    (file,) = site.glob("parbench_example-*.dist-info/entry_points.txt")
    return {line.split("=")[0].strip(): line for line in file.read_text().splitlines() if "=" in line}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what an installer puts there; written by hand, since build backends have to be downloaded."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "parbench_example", folder / "parbench_example")
    information = folder / f"parbench_example-{project['version']}.dist-info"
    information.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (information / "METADATA").write_text(metadata)
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (information / "entry_points.txt").write_text("\n".join(groups))
    return folder


def python(site: Path, *arguments: str) -> str:
    """Run Python with the package on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "COLUMNS": "120"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("kind", "name"), [("methods", "gate"), ("tasks", "example/majority")])
def test_it_is_listed(site, kind, name):
    lines = python(site, "-c", "from bench.cli import main; main()", "list", kind).splitlines()
    assert [line.split() for line in lines if line.startswith(name)] == [
        [name, "from", "the", "package", "parbench-example"]
    ]


def test_its_method_keeps_the_contract_and_its_task_has_data(site, tmp_path):
    lines = python(site, "-c", USE, str(tmp_path)).splitlines()
    assert lines[0] == '"gate" on bert'
    outcomes = {line.split()[0]: line for line in lines[1:-1]}
    assert outcomes["merge"].split() == ["merge", "passed"]
    assert outcomes["llama"].split() == ["llama", "passed"]
    assert "gate needs nn.Linear with a multiple of 8 outputs, not Conv1D" in outcomes["gpt2"]
    assert lines[-1].endswith("('bad', 'good')")
    assert "'reported': 100" in lines[-1]


def test_pip_installs_the_same(site, tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling, the build backend of the example")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    source = shutil.copytree(EXAMPLE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    installed = tmp_path / "installed"
    done = subprocess.run(
        [*command, "--target", str(installed), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert entry_points(installed) == entry_points(site)
    assert {path.name for path in (installed / "parbench_example").glob("*.py")} == {
        path.name for path in (EXAMPLE / "parbench_example").glob("*.py")
    }
