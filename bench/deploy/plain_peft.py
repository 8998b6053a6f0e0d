"""Loads an adapter in a process that has peft and no parbench.

The script below is all that the process runs; it is given to Python as text, in isolated mode, and may not import
parbench.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from parbench.bench.util import torchvision_on_cpu

SECONDS = 300.0

_SCRIPT = """
import json, sys
import torch
from safetensors.torch import load_file, save_file
import transformers

job = json.loads(sys.argv[1])


class NoParbench:
    def find_spec(self, name, path=None, target=None):
        if name == "parbench" or name.startswith("parbench."):
            raise ImportError("parbench is not to be imported")


sys.meta_path.insert(0, NoParbench())
from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

with open(job["adapter"] + "/adapter_config.json", encoding="utf-8") as file:
    kind = json.load(file)["peft_type"]
if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
    sys.exit(f"it has no {kind} until its module is imported")
base = getattr(transformers, job["model_class"]).from_pretrained(job["base"], dtype=torch.float32)
model = PeftModel.from_pretrained(base, job["adapter"]).eval()
with torch.no_grad():
    logits = model(**load_file(job["inputs"])).logits
save_file({"logits": logits.float().contiguous()}, job["outputs"])
"""


def why_not_plain_peft(base: PreTrainedModel, adapter: Path, inputs: dict[str, Tensor], expected: Tensor) -> str:
    """Return why a process without parbench cannot use an adapter; empty where it can, with the same logits.

    Args:
        base: the base model under its head, in float32 and not adapted.
        adapter: its folder.
        inputs: of the model.
        expected: logits of the adapted model on them.
    """
    with tempfile.TemporaryDirectory(prefix="plain-peft-") as name:
        folder = Path(name)
        base.save_pretrained(str(folder / "base"))
        save_file({key: value.contiguous() for key, value in inputs.items()}, folder / "inputs.safetensors")
        job = {
            "model_class": type(base).__name__,
            "base": str(folder / "base"),
            # The process works in another folder.
            "adapter": str(adapter.absolute()),
            "inputs": str(folder / "inputs.safetensors"),
            "outputs": str(folder / "outputs.safetensors"),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", torchvision_hook() + _SCRIPT, json.dumps(job)],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it was not loaded within {SECONDS:.0f} seconds"
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]
        found = load_file(folder / "outputs.safetensors")["logits"]
    change = float((found - expected).abs().max() / expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny))
    return "" if change <= 1e-4 else f"its logits differ by {change:.2g} of the largest"


def torchvision_hook() -> str:
    """Return the source of the hook beside which this installation can import torchvision, as a part of the script."""
    return Path(torchvision_on_cpu.__file__).read_text(encoding="utf-8") + "\ninstall()\n"
