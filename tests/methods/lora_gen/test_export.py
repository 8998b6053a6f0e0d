"""The generated adapter, in peft's hands alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from parbench.methods.lora_gen import LoraGen

EDGES = ["llama", "gpt2", "opt"]
TARGETS = {"llama": {"gate_proj", "up_proj", "down_proj"}, "gpt2": {"c_fc", "mlp.c_proj"}, "opt": {"fc1", "fc2"}}
PROMPT = [5, 6, 7, 8]

STRANGER = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "parbench":
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
# A torchvision of another build than torch cannot be imported, and is not needed.
sys.modules["torchvision"] = None
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
tokens, *folders = sys.argv[1:]
for folder in folders:
    edge = AutoModelForCausalLM.from_pretrained(folder + "/edge")
    model = PeftModel.from_pretrained(edge, folder + "/adapter", autocast_adapter_dtype=False)
    with torch.no_grad():
        logits = model.eval()(input_ids=load_file(tokens)["tokens"]).logits
    save_file({"logits": logits.contiguous()}, folder + "/out.safetensors")
try:
    import parbench
except ImportError:
    pass
else:
    raise SystemExit("the package was there")
"""


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("options", [{}, {"mixing": "products"}, {"routing": "direct"}], ids=str)
def test_attached_and_merged_compute_the_same(
    build: Callable[..., LoraGen],
    make_model: Callable[[str], PreTrainedModel],
    tokens: Tensor,
    edge: str,
    options: dict[str, object],
) -> None:
    model = build(edge, started=True, **options)
    expected = model(torch.tensor([PROMPT]), input_ids=tokens).logits
    adapter = model.generate(PROMPT)
    assert set(adapter.config.target_modules) == TARGETS[edge]
    assert adapter.numbers == model.parameter_counts().delivered
    assert adapter.config.r == (6 if options.get("mixing") == "products" else 3)
    torch.testing.assert_close(adapter.attach(make_model(edge))(input_ids=tokens).logits, expected)
    for target in (make_model(edge), model.release_edge()):
        merged = adapter.merge(target)
        assert type(merged) is type(make_model(edge))
        assert merged.state_dict().keys() == make_model(edge).state_dict().keys()
        torch.testing.assert_close(merged(input_ids=tokens).logits, expected)
    # Without the edge wrapped, the generator still generates.
    torch.testing.assert_close(dict(model.generate(PROMPT).tensors), dict(adapter.tensors), rtol=0, atol=0)


def test_a_process_without_this_package_gets_the_same_logits(
    build: Callable[..., LoraGen], make_model: Callable[[str], PreTrainedModel], tokens: Tensor, tmp_path: Path
) -> None:
    expected = {}
    for edge in EDGES:
        model, folder = build(edge, started=True), tmp_path / edge
        expected[edge] = model(torch.tensor([PROMPT]), input_ids=tokens).logits
        make_model(edge).save_pretrained(folder / "edge")
        model.generate(PROMPT).save(folder / "adapter")
        files = {file.name for file in (folder / "adapter").iterdir()}
        assert files >= {"adapter_config.json", "adapter_model.safetensors"}
        assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    save_file({"tokens": tokens}, tmp_path / "tokens.safetensors")
    command = [sys.executable, "-c", STRANGER, str(tmp_path / "tokens.safetensors")]
    command += [str(tmp_path / edge) for edge in EDGES]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for edge in EDGES:
        torch.testing.assert_close(load_file(tmp_path / edge / "out.safetensors")["logits"], expected[edge])


def test_generating_leaves_the_mode_and_draws_nothing(build: Callable[..., LoraGen]) -> None:
    model = build(started=True, routing="gumbel", cloud_dropout=0.5, lora_dropout=0.5).train()
    model.encoder.cloud.eval()
    modes = [module.training for module in model.modules()]
    first, second = model.generate(PROMPT), model.generate(torch.tensor([PROMPT]))
    torch.testing.assert_close(dict(first.tensors), dict(second.tensors), rtol=0, atol=0)
    assert [module.training for module in model.modules()] == modes


def test_an_adapter_does_not_follow_later_training(build: Callable[..., LoraGen]) -> None:
    model = build(started=True)
    adapter = model.generate(PROMPT)
    before = {name: tensor.clone() for name, tensor in adapter.tensors.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(dict(adapter.tensors), before, rtol=0, atol=0)


def test_text_goes_through_the_tokenizer(build: Callable[..., LoraGen]) -> None:
    model = build(started=True)
    with pytest.raises(ValueError, match="needs the cloud's tokenizer"):
        model.generate("be brief")
    model.tokenizer = lambda text: {"input_ids": [len(word) for word in text.split()]}
    torch.testing.assert_close(dict(model.generate("be brief").tensors), dict(model.generate([2, 5]).tensors))


def test_misuse_is_refused(
    build: Callable[..., LoraGen], make_model: Callable[[str], PreTrainedModel], tokens: Tensor
) -> None:
    model = build(started=True)
    with pytest.raises(ValueError, match="one system prompt, not 3"):
        model.generate(tokens)
    adapter, plain = model.generate(PROMPT), make_model("llama")
    with pytest.raises(ValueError, match="call its release_edge"):
        adapter.merge(model.edge)
    with pytest.raises(ValueError, match="the adapter is for another edge model"):
        build("cloud", started=True).generate(PROMPT).attach(plain)
    torch.testing.assert_close(plain.state_dict(), make_model("llama").state_dict(), rtol=0, atol=0)


def test_two_adapters_can_be_switched(
    build: Callable[..., LoraGen], make_model: Callable[[str], PreTrainedModel], tokens: Tensor, tmp_path: Path
) -> None:
    model = build(started=True)
    for name, prompt in (("a", [1, 2]), ("b", PROMPT)):
        model.generate(prompt).save(tmp_path / name)
    both = PeftModel.from_pretrained(make_model("llama"), str(tmp_path / "a"), adapter_name="a")
    both.load_adapter(str(tmp_path / "b"), "b", torch_device="cpu")
    for name, prompt in (("a", [1, 2]), ("b", PROMPT)):
        both.set_adapter(name)
        torch.testing.assert_close(
            both.eval()(input_ids=tokens).logits, model(torch.tensor([prompt]), input_ids=tokens).logits
        )
