"""Savings and costs of LoRA-Gen, measured side by side: ``python -m tests.perf.lora_gen_latency --help``.

The paper compares an edge model that is given the examples of its task in its context with one that has a LoRA
generated from them (section 4.2, Table 13). Here both read the same question in one process: one round is one call of
each variant, so that other load on the machine affects all of them. Time is processor time, on a GPU wall time between
two synchronisations. Ratios are taken within a round.

The lengths are Table 13's, 200 tokens of instruction and 100 of input. Most of the saving is the shorter
context, which any LoRA for the same prompt would give. The cost of the generator is listed, with the number of batches
after which it is recovered.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from parbench.methods.lora_gen import LoraGen, LoraGenConfig

IN_CONTEXT = "system prompt in the edge's context"
TRAINING = "training step: LoRA, system prompt in context"
_TARGETS = ["gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Lengths:
    """Tokens of a system prompt and of an input, inputs of a batch, and tokens that are generated after each."""

    prompt: int = 200
    input: int = 100
    batch: int = 1
    new: int = 0

    @property
    def context_ratio(self) -> float:
        """Share of the context that is left to an edge which has a LoRA instead of the prompt."""
        return self.input / (self.prompt + self.input)


Variants = Mapping[str, Callable[[], object]]


def random_model(layers: int, seed: int) -> PreTrainedModel:
    """Return a Llama with random weights, as wide as SmolLM2-135M."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
    )
    return LlamaForCausalLM(config).eval()


def answering(cloud: PreTrainedModel, edge: PreTrainedModel, lengths: Lengths) -> Variants:
    """Return what is done for one batch of questions, and once for a system prompt."""
    prompt, inputs = _tokens(edge, lengths)
    plain = copy.deepcopy(edge)
    lora_gen = LoraGen(copy.deepcopy(cloud), copy.deepcopy(edge), LoraGenConfig(projections=None)).eval()
    cloud_prompt, _ = _tokens(cloud, lengths)
    generated = lora_gen.read(cloud_prompt[0])
    merged = lora_gen.generate(cloud_prompt[0]).merge(copy.deepcopy(edge))
    whole = torch.cat([prompt.expand(lengths.batch, -1), inputs], dim=1)

    def with_lora() -> None:
        with lora_gen.using(generated):
            _answer(lora_gen.edge, inputs, lengths)

    def merge() -> None:
        lora_gen.merge(generated)
        lora_gen.unmerge()

    return {
        IN_CONTEXT: lambda: _answer(plain, whole, lengths),
        "LoRA merged": lambda: _answer(merged, inputs, lengths),
        "LoRA beside the weights": with_lora,
        "once per prompt: cloud and generator": lambda: lora_gen.read(cloud_prompt[0]),
        "once per prompt: merging": merge,
    }


def training(cloud: PreTrainedModel, edge: PreTrainedModel, lengths: Lengths) -> Variants:
    """Return forward and backward passes of training, without the optimiser's step."""
    prompt, inputs = _tokens(edge, lengths)
    lora = get_peft_model(copy.deepcopy(edge), LoraConfig(r=16, target_modules=_TARGETS)).train()
    lora_gen = LoraGen(copy.deepcopy(cloud), copy.deepcopy(edge)).train()
    cloud_prompts = _tokens(cloud, lengths)[0].expand(lengths.batch, -1)
    whole = torch.cat([prompt.expand(lengths.batch, -1), inputs], dim=1)

    return {
        TRAINING: lambda: lora(input_ids=whole, labels=whole, use_cache=False).loss.backward(),
        "training step: LoRA, no system prompt": lambda: lora(
            input_ids=inputs, labels=inputs, use_cache=False
        ).loss.backward(),
        "training step: LoRA-Gen": lambda: _loss(lora_gen(cloud_prompts, input_ids=inputs, labels=inputs)).backward(),
    }


def measure(variants: Variants, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each variant in each of the rounds, after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, call in variants.items():
            start = _now(device)
            call()
            if number:
                seconds[name].append(_now(device) - start)
    return seconds


def table(seconds: Mapping[str, Sequence[float]], of: str) -> str:
    """Return median and quartiles in milliseconds, and as a share of the variant ``of``, as Markdown."""
    lines = [f"| what | ms | of: {of} |", "|---|---|---|"]
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, seconds[of], strict=True)]
        lines.append(f"| {name} | {_spread([1000 * value for value in values], 1)} | {_spread(ratios, 3)} |")
    return "\n".join(lines)


def break_even(seconds: Mapping[str, Sequence[float]]) -> float | None:
    """Return after how many batches the generator has cost less than it saves, by medians; ``None`` if never."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    once = sum(value for name, value in median.items() if name.startswith("once"))
    saved = median[IN_CONTEXT] - median["LoRA merged"]
    return once / saved if saved > 0 else None


@torch.no_grad()
def _answer(model: PreTrainedModel, tokens: Tensor, lengths: Lengths) -> None:
    if lengths.new:
        model.generate(  # type: ignore[operator]
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            min_new_tokens=lengths.new,
            max_new_tokens=lengths.new,
        )
    else:
        model(input_ids=tokens, use_cache=False, logits_to_keep=1)


def _loss(output: object) -> Tensor:
    loss: Tensor = output.loss  # type: ignore[attr-defined]
    return loss


def _tokens(model: PreTrainedModel, lengths: Lengths) -> tuple[Tensor, Tensor]:
    """Return a system prompt, shape (1, tokens), and inputs, shape (batch, tokens): which tokens does not matter."""
    draw = torch.Generator().manual_seed(0)
    words = model.config.get_text_config().vocab_size
    prompt = torch.randint(10, words, (1, lengths.prompt), generator=draw)
    inputs = torch.randint(10, words, (lengths.batch, lengths.input), generator=draw)
    return prompt.to(model.device), inputs.to(model.device)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def _spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write Markdown tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.lora_gen_latency", description="Measure LoRA-Gen.")
    parser.add_argument("--edge", help="folder or hub id of a causal language model (default: a random Llama)")
    parser.add_argument("--cloud", help="as --edge (default: the same model as the edge)")
    parser.add_argument("--layers", type=int, default=8, help="layers of a random Llama (default: 8)")
    parser.add_argument("--prompt", type=int, default=200, help="tokens of the system prompt (default: 200)")
    parser.add_argument("--input", type=int, default=100, help="tokens of a question (default: 100)")
    parser.add_argument("--new", type=int, default=0, help="tokens to generate (default: 0, the first token's logits)")
    parser.add_argument("--batch", type=int, default=1, help="questions in a batch (default: 1)")
    parser.add_argument("--rounds", type=int, default=9, help="calls of each variant (default: 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--training", action="store_true", help="measure training steps as well")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    edge = _model(chosen.edge, chosen.layers, 0, device)
    cloud = _model(chosen.cloud, chosen.layers, 1, device) if chosen.cloud else copy.deepcopy(edge)
    lengths = Lengths(chosen.prompt, chosen.input, chosen.batch, chosen.new)
    seconds = measure(answering(cloud, edge, lengths), chosen.rounds, device)
    batches = break_even(seconds)
    recovered = "never recovered" if batches is None else f"recovered after {batches:.1f} batches of questions"
    sys.stdout.write(
        f"{lengths.batch} x {lengths.input} tokens, system prompt of {lengths.prompt}, {lengths.new} generated; "
        f"torch {torch.__version__} on {device}\n"
        f"context left: {lengths.context_ratio:.0%}; the generator's cost is {recovered}\n\n"
        f"{table(seconds, IN_CONTEXT)}\n"
    )
    if chosen.training:
        steps = measure(training(cloud, edge, lengths), chosen.rounds, device)
        sys.stdout.write(f"\n{table(steps, TRAINING)}\n")


def _model(name: str | None, layers: int, seed: int, device: torch.device) -> PreTrainedModel:
    if name is None:
        return nn.Module.to(random_model(layers, seed), device)
    model = AutoModelForCausalLM.from_pretrained(
        name, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return model.eval().to(device)


if __name__ == "__main__":
    main()
