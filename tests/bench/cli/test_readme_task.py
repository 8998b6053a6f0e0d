"""The task file of the README is read as it stands there, beside its data and below a data root."""

import re

import pytest

from parbench.tasks.from_yaml import task_of_file
from tests.support.paths import ROOT
from tests.support.yaml_files import write

ROWS = [{"review": f"film {n}", "stars": ("bad", "good")[n % 2]} for n in range(20)]


@pytest.fixture
def readme_file(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    [block] = [block for block in blocks if "kind: " in block]
    path = tmp_path / "home" / "my_task.yaml"
    path.parent.mkdir()
    path.write_text(block, encoding="utf-8")
    return path


@pytest.mark.parametrize("below_a_data_root", [False, True])
def test_the_readmes_task(bench, readme_file, tmp_path, below_a_data_root):
    data = task_of_file(readme_file).data
    root = tmp_path / "elsewhere" if below_a_data_root else readme_file.parent
    for name in data.split_names:
        write(root / data.folder / name, ROWS)
    options = ["--data-root", root] if below_a_data_root else []
    result = bench("task", "check", readme_file, *options, "--out", tmp_path / "store")
    assert result.code == 0, result.err
    assert "local folder reviews" in result.out
    assert "good" in result.out
