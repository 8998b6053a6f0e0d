"""The lines of a card for models that transformers does not have, or that it has for something else."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

from parbench.bench.deploy.plain_peft import torchvision_hook
from parbench.bench.models.catalogue import find_model
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.reports.deployment.usage import usage
from parbench.tasks.base import IMAGE_TEXT_MODEL, Head
from tests.support.tiny_vl_bart import vl_bart_folder
from tests.support.video_models import video_swin

CLIPS = Head("AutoModelForVideoClassification", ("run", "jump", "sit"))
QUESTION = {
    "input_ids": torch.tensor([[5, 6, 7]]),
    "attention_mask": torch.ones(1, 3),
    "decoder_input_ids": torch.tensor([[2, 1]]),
    "pixel_values": torch.full((1, 1, 3, 64, 64), 0.3),
}
CLIP = {"pixel_values": torch.full((1, 4, 3, 32, 32), 0.3)}
# What follows the lines.
SHOWN = """
import sys, torch
inputs, result = sys.argv[1:]
torch.save(model.eval()(**torch.load(inputs, weights_only=True)).logits, result)
"""


def vit_folder(folder):
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    config.num_labels = 3
    ViTForImageClassification(config).save_pretrained(folder)
    return folder


def swin_folder(folder):
    torch.manual_seed(0)
    video_swin().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("form", ["adapter", "merged"])
@pytest.mark.parametrize(
    ("make", "head", "inputs"),
    [(vl_bart_folder, IMAGE_TEXT_MODEL, QUESTION), (vit_folder, CLIPS, CLIP), (swin_folder, CLIPS, CLIP)],
)
def test_the_lines_load_it_in_a_process_of_its_own(tmp_path, make, head, inputs, form):
    base_model = find_model(str(make(tmp_path / "base")))
    lora, exported = METHODS["lora"], tmp_path / "exported"
    model = lora.adapt(base := base_model.load(head, ""), module_names(base), lora.setting_type(r=2)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
        expected = model(**inputs).logits
    if form == "merged":
        model.merge_and_unload().save_pretrained(exported)
    else:
        lora.save(model, exported)
    planned = SimpleNamespace(
        task=SimpleNamespace(head=head), base_model=base_model, spec=SimpleNamespace(model_revision="")
    )
    shown = usage(SimpleNamespace(planned=planned, folder=exported, is_adapter=True), form)
    lines = shown.partition("```python\n")[2].partition("```")[0]
    lines = lines.replace('"FOLDER', f'"{exported}').replace("BASE_MODEL", str(tmp_path / "base"))
    torch.save(inputs, tmp_path / "inputs.pt")
    arguments = [sys.executable, "-c", f"{torchvision_hook()}\n{lines}\n{SHOWN}", "inputs.pt", "logits.pt"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "logits.pt", weights_only=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
