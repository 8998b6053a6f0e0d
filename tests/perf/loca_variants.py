"""What the LoCA benchmarks measure: model shapes, the variants of an adapted model, and one training step."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from peft import FourierFTConfig, LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, RobertaConfig, RobertaModel

from parbench.methods.fourierft_fast import compute_fast
from parbench.methods.loca.config import LocaConfig
from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS, LocaLayer
from tests.support.loca_reference import DenseLinear, RankProductLinear, use_reference

# As encoders and Llama call them.
TARGETS = (["query", "value"], ["q_proj", "v_proj"])
FREQUENCIES = 1000
RANK = 8
WIDTH = 768
LENGTH = 128


@dataclass(frozen=True)
class Shape:
    """A stack of blocks that is fed with hidden states.

    Attributes:
        width: of the hidden states.
        length: tokens of a sequence.
        batch: sequences of a step.
        blocks: of the whole model.
        dtypes: of the frozen weights, each measured; with 16 bits forward passes run under autocast.
        make: the model of so many blocks, for so many words.
    """

    width: int
    length: int
    batch: int
    blocks: int
    dtypes: tuple[torch.dtype, ...]
    make: Callable[[int, int], nn.Module]

    def base(self, blocks: int, words: int = 8) -> nn.Module:
        """Return so many of the blocks, frozen, with random weights and a vocabulary of so many words."""
        torch.manual_seed(0)
        return self.make(blocks, words).requires_grad_(False)


def _roberta(blocks: int, words: int) -> nn.Module:
    config = RobertaConfig(vocab_size=words, num_hidden_layers=blocks, max_position_embeddings=514, type_vocab_size=1)
    return RobertaModel(config, add_pooling_layer=False)


def _llama(width: int, inner: int, heads: int, blocks: int, words: int) -> nn.Module:
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    return LlamaModel(config)


def _bert(width: int, inner: int, heads: int, blocks: int, words: int) -> nn.Module:
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_hidden_layers=blocks,
    )
    return BertModel(config, add_pooling_layer=False)


SHAPES = {
    "roberta-base": Shape(WIDTH, LENGTH, 32, 12, (torch.float32, torch.bfloat16), _roberta),
    "llama-7b": Shape(4096, 512, 4, 32, (torch.bfloat16,), partial(_llama, 4096, 11008, 32)),
    # The same blocks as those of a ViT-S, but for half the heads and where they normalise.
    "minilm": Shape(384, 27, 16, 6, (torch.float32,), partial(_bert, 384, 1536, 12)),
    # To try the path.
    "tiny": Shape(32, 8, 2, 1, (torch.float32, torch.bfloat16), partial(_llama, 32, 64, 2)),
}


def targets(base: nn.Module) -> list[str]:
    """Return the names of the query and value projections of a model."""
    leaves = {name.rpartition(".")[2] for name, _ in base.named_modules()}
    return next(names for names in TARGETS if leaves.issuperset(names))


def lora(base: nn.Module) -> nn.Module:
    """peft's LoRA."""
    return get_peft_model(base, LoraConfig(r=RANK, target_modules=targets(base)))


def loca(
    base: nn.Module,
    frozen: str = LOCATIONS,
    layer_type: type[RankProductLinear] | None = None,
    keep_update: bool = False,
) -> nn.Module:
    """LoCA in one of its two phases: locations, or coefficients, are frozen."""
    config = LocaConfig(
        n_frequency=FREQUENCIES,
        target_modules=targets(base),
        keep_update=keep_update,
        init_weights=False,
        location_seed=0,
    )
    model = get_peft_model(base, config)
    for module in model.modules():
        if isinstance(module, LocaLayer):
            module.freeze("default", [frozen])
    if layer_type is not None:
        use_reference(model, layer_type)
    return model


def fourierft(base: nn.Module) -> nn.Module:
    """peft's FourierFT."""
    return get_peft_model(base, FourierFTConfig(n_frequency=FREQUENCIES, target_modules=targets(base)))


def fourierft_fast(base: nn.Module, keep_update: bool = False) -> nn.Module:
    """The same, computed fast."""
    model = fourierft(base)
    compute_fast(model, keep_update)
    return model


VARIANTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "floor": lambda base: base,
    "lora": lora,
    "loca dense": partial(loca, layer_type=DenseLinear),
    "loca rank product": partial(loca, layer_type=RankProductLinear),
    "loca, rebuilt": loca,
    "loca, kept": partial(loca, keep_update=True),
    "loca dense, locations": partial(loca, frozen=COEFFICIENTS, layer_type=DenseLinear),
    "loca, rebuilt, locations": partial(loca, frozen=COEFFICIENTS),
    "fourierft": fourierft,
    "fourierft fast, rebuilt": fourierft_fast,
    "fourierft fast, kept": partial(fourierft_fast, keep_update=True),
}


class Trained:
    """One variant of a base model, with its optimiser.

    Args:
        base: changed in place.
    """

    def __init__(self, variant: str, base: nn.Module) -> None:
        self.model = VARIANTS[variant](base).train()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=1e-3) if trained else None

    def step(self, inputs: Tensor) -> None:
        """One training step on ``inputs`` ``(batch, length, width)``, under autocast if they have 16 bits."""
        with torch.autocast(inputs.device.type, inputs.dtype) if inputs.dtype.itemsize < 4 else nullcontext():
            outputs = self.model(inputs_embeds=inputs.clone().requires_grad_()).last_hidden_state
        outputs.float().square().mean().backward()
        if self.optimiser is not None:
            self.optimiser.step()
            self.optimiser.zero_grad()


def spread(values: Sequence[float], unit: str = "{:.3f}") -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{unit.format(middle)} ({unit.format(low)}-{unit.format(high)})"
