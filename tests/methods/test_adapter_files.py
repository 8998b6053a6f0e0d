"""Adapter folders: identical for identical runs, without frozen weights, and with a card on how to load them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from parbench.methods import find_method
from parbench.methods.adapter_files import save_adapter
from parbench.methods.architecture import module_names
from parbench.methods.loca import LocaConfig
from parbench.methods.testing.models import TINY_MODELS
from tests.support.paths import ROOT

WRITE = """
import sys
from pathlib import Path
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.testing.models import TINY_MODELS

torch = __import__("torch")
for expression in ("loca", "replora", "lora"):
    base = TINY_MODELS["bert"].build()
    found = find_method(expression + "(target_modules=[query,key,value,intermediate.dense])")
    torch.manual_seed(0)
    names = module_names(base)
    model = found.method.adapt(base, names, found.method.setting_type(**found.values))
    found.method.save(model, Path(sys.argv[1]) / expression)
"""
LOAD = """
import sys
from parbench.methods.testing.models import TINY_MODELS
base_model = TINY_MODELS["bert"].build()
"""


def run(code: str, *arguments: str, hash_seed: int = 0) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=800
    )
    assert not done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_identical_adapters_have_identical_files_and_cards_that_load_them(tmp_path: Path) -> None:
    for seed in (1, 2):
        run(WRITE, str(tmp_path / str(seed)), hash_seed=seed)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert len(files) == 9
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file
    load = LOAD
    for name in ("loca", "replora"):
        card = (tmp_path / "1" / name / "README.md").read_text(encoding="utf-8")
        assert "library_name: peft" in card
        assert "More Information Needed" not in card
        (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        assert f"import parbench.methods.{name}" in code
        load += code.replace("path/to/this/folder", str(tmp_path / "1" / name))
    run(load)


def test_saving_again_keeps_what_a_person_wrote_and_adds_the_import_once(tmp_path: Path) -> None:
    model = get_peft_model(TINY_MODELS["bert"].build(), LocaConfig(n_frequency=5, target_modules=["query"]))
    model.save_pretrained(str(tmp_path))
    card = tmp_path / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "\nTrained on a Tuesday.\n", encoding="utf-8")
    model.save_pretrained(str(tmp_path))
    text = card.read_text(encoding="utf-8")
    assert "Trained on a Tuesday." in text
    assert text.count("import parbench.methods.loca") == 1


def test_the_folder_of_a_further_adapter_has_a_card_of_its_own(tmp_path: Path) -> None:
    config = LocaConfig(n_frequency=5, target_modules=["query"])
    model = get_peft_model(TINY_MODELS["bert"].build(), config, adapter_name="other")
    model.save_pretrained(str(tmp_path))
    assert "import parbench.methods.loca" in (tmp_path / "other" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("expression", ["lora", "fourierft", "loca(n_frequency=50)", "fourierft_fast"])
@pytest.mark.parametrize("targets", ["[lm_head]", "[lm_head,q_proj]"])
def test_files_hold_no_frozen_matrix(expression: str, targets: str, tmp_path: Path) -> None:
    name, _, options = expression.rstrip(")").partition("(")
    found = find_method(f"{name}({','.join(filter(None, [options, f'target_modules={targets}']))})")
    base = TINY_MODELS["llama"].build()
    frozen = {tuple(parameter.shape) for parameter in base.parameters() if parameter.ndim == 2}
    names = module_names(base)
    model = found.method.adapt(base, names, found.method.setting_type(**found.values))
    found.method.save(model, tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert stored.keys() == found.method.adapter_state(model, names).keys()
    assert not [key for key, tensor in stored.items() if tuple(tensor.shape) in frozen]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(tensor.numel() for tensor in stored.values()) == trained


def test_an_adapter_on_embeddings_is_saved_and_loaded_without_them(tmp_path: Path) -> None:
    model = get_peft_model(TINY_MODELS["llama"].build(), LoraConfig(r=2, target_modules=["embed_tokens"]))
    save_adapter(model, tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == 2 * sum(model.get_input_embeddings().weight.shape)
    assert torch.is_tensor(next(iter(stored.values())))
