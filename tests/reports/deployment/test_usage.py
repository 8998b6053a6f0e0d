"""The lines of a card for models that transformers does not have, or that it has for something else."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from parbench.bench.deploy.plain_peft import torchvision_hook
from parbench.bench.models.catalogue import find_model
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.reports.deployment.usage import usage
from parbench.tasks.base import IMAGE_TEXT_MODEL, Head
from tests.support.tiny_llama import tiny_model_folder
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
with torch.no_grad():
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
    found = shown_logits(tmp_path, base_model, head, inputs, exported, form)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def shown(base_model, head, folder, form="adapter", precision="float32", is_adapter=True):
    """Return what a card shows of an exported folder."""
    spec = SimpleNamespace(model_revision="", base_precision=precision)
    planned = SimpleNamespace(task=SimpleNamespace(head=head), base_model=base_model, spec=spec)
    return usage(SimpleNamespace(planned=planned, folder=folder, is_adapter=is_adapter), form)


def shown_logits(tmp_path, base_model, head, inputs, folder, form="adapter", **options):
    """Return the logits of the model that these lines load, in a process of its own."""
    lines = shown(base_model, head, folder, form, **options).partition("```python\n")[2].partition("```")[0]
    lines = lines.replace('"FOLDER', f'"{folder}').replace("BASE_MODEL", str(base_model.weights.location()))
    lines += "" if options.get("is_adapter", True) else "model = base"
    torch.save(inputs, tmp_path / "inputs.pt")
    arguments = [sys.executable, "-c", f"{torchvision_hook()}\n{lines}\n{SHOWN}", "inputs.pt", "logits.pt"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return torch.load(tmp_path / "logits.pt", weights_only=True)


def llama_folder(folder):
    """A language model whose configuration, like that of many, names no padding token; widths that 4 bits take."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return tiny_model_folder(folder, LlamaForCausalLM(config))


# Two texts of different lengths: the last token of the second is found by its padding.
TEXTS = {
    "input_ids": torch.tensor([[1, 5, 6, 7, 40, 41], [1, 9, 8, 0, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
}
SENTIMENT = Head("AutoModelForSequenceClassification", ("negative", "positive"))


def trained_on(base_model, name, precision, folder):
    """Save an adapter with an update, and return the logits of the model as a run would have it."""
    method = METHODS[name]
    base = base_model.load(SENTIMENT, "", precision)
    model = method.adapt(base, module_names(base), method.setting_type()).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
        method.save(model, folder)
        return model(**TEXTS).logits.float()


@pytest.mark.parametrize(
    ("precision", "name"),
    [
        ("float32", "lora"),
        ("bfloat16", "lora"),
        ("bfloat16", "linear_probe"),
        ("int8", "lora"),
        ("nf4", "lora"),
        ("nf4", "loca"),
    ],
)
def test_the_lines_load_the_base_in_the_precision_of_the_run(tmp_path, name, precision):
    pytest.importorskip("bitsandbytes")
    base_model, folder = find_model(str(llama_folder(tmp_path / "base"))), tmp_path / "adapter"
    expected = trained_on(base_model, name, precision, folder)
    options = {"precision": precision, "is_adapter": name != "linear_probe"}
    found = shown_logits(tmp_path, base_model, SENTIMENT, TEXTS, folder, **options).float()
    if precision in ("float32", "bfloat16") or name == "loca":
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        return
    # Without parbench the layers of bitsandbytes hold the weights, which on a CPU round more: the card says so.
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
    text = shown(base_model, SENTIMENT, folder, **options)
    assert "On a CPU the layers of bitsandbytes round more" in text
    assert f"convert_base(base, \"{precision}\", ['score'])" in text
    on_float32 = PeftModel.from_pretrained(base_model.load(SENTIMENT, ""), str(folder)).eval()
    with torch.no_grad():
        apart = (on_float32(**TEXTS).logits - expected).abs().max()
    assert precision == "int8" or apart > 0.2 * expected.abs().max()


def test_the_layers_that_stay_in_float32_are_named(tmp_path):
    """The head, and a pooler that the checkpoint lacks, which is trained with it."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=300
    )
    folder = tiny_model_folder(tmp_path / "base", BertForMaskedLM(config))
    text = shown(find_model(str(folder)), SENTIMENT, tmp_path, form="lora", precision="nf4")
    assert "llm_int8_skip_modules=['bert.pooler.dense', 'classifier']" in text
