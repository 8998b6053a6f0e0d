import subprocess
import sys
from types import ModuleType

import pytest

from parbench.bench.util import torchvision_on_cpu
from parbench.bench.util.torchvision_on_cpu import DeclareMissingOperators, install


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    "first",
    [
        "peft",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("torchvision", "timm", "transformers.models.bert.modeling_bert")
        ),
    ],
)
def test_libraries_can_be_imported_after_parbench(first):
    done = run(f"import parbench, {first}; print('fine')")
    assert done.stdout.strip() == "fine", done.stderr[-500:]


def test_installing_it_imports_nothing_heavy():
    code = "import sys, parbench; print([name for name in ('torch', 'torchvision', 'numpy') if name in sys.modules])"
    done = run(code)
    assert done.stdout.strip() == "[]"
    assert "DeclareMissingOperators" in run("import sys, parbench; print(sys.meta_path)").stdout


def test_it_is_installed_once():
    def finders():
        return [finder for finder in sys.meta_path if type(finder).__name__ == DeclareMissingOperators.__name__]

    before = finders()
    install()
    assert finders() == before
    assert len(before) <= 1


def test_it_is_inert_where_torchvisions_extension_loaded(monkeypatch, tmp_path):
    extension = ModuleType("torchvision.extension")
    extension._has_ops = lambda: True
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.extension", extension)
    declared = []
    monkeypatch.setattr("torch.library.define", lambda *arguments: declared.append(arguments))
    source = tmp_path / "_meta_registrations.py"
    source.write_text('@torch.library.register_fake("torchvision::nms")\ndef f(): ...\n')

    torchvision_on_cpu._declare_missing(str(source))
    assert declared == []
    extension._has_ops = lambda: False
    torchvision_on_cpu._declare_missing(str(source))
    assert [name for name, _ in declared] == ["torchvision::nms"]


def test_it_looks_at_no_other_module():
    assert DeclareMissingOperators().find_spec("torchvision.transforms", None) is None
