"""The reparameterization: seeds, generators, and the modules that share them. Independent of peft."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .config import RepLoraConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}

Start = Literal["zero", "lora", "random"]


@dataclass(frozen=True)
class Place:
    """Seeds and generators of a module: modules with equal `seeds` or `generators` share them."""

    seeds: str
    generators: str
    projection: str


def locate(module_name: str, config: RepLoraConfig) -> Place:
    """Return the place of a module from its name.

    ``encoder.layer.3.attention.self.query`` and ``...self.value`` are two projections of one block. Names are
    keys of an `nn.ModuleDict`, which allows neither dots nor the names of its own methods, hence the slashes.
    """
    block, _, projection = module_name.rpartition(".")
    owner = block if config.share_first_layer else module_name
    path = "/" + owner.replace(".", "/")
    if not config.share_across_layers:
        return Place(path, path, projection)
    return Place(path, "/*" if config.share_first_layer else f"/*/{projection}", projection)


def parameter_count(config: RepLoraConfig, shapes: Mapping[str, tuple[int, int]]) -> int:
    """Count the trainable parameters of the adapter, without the task head.

    By default, but without biases, a block has ``2r + 2rh + h * sum(d_in + d_out)``, the sum being over its
    projections; biases add ``2h + sum(d_in + d_out)``. The exported LoRA has ``r * sum(d_in + d_out)``.

    Args:
        config: the options.
        shapes: ``(d_in, d_out)`` of each adapted module, by its full name in the base model.

    Raises:
        ValueError: generators are shared across layers, but projections of equal name differ in shape.
    """
    seeds: set[str] = set()
    generators: set[str] = set()
    outputs: dict[tuple[str, str], tuple[int, int]] = {}
    for name, shape in shapes.items():
        place = locate(name, config)
        seeds.add(place.seeds)
        generators.add(place.generators)
        known = outputs.setdefault((place.generators, place.projection), shape)
        if known != shape:
            raise ValueError(_unequal(place.projection, known, shape))
    bias = int(config.generator_bias)
    per_seed = {"diagonal": config.r, "full": config.r**2, "identity": 0}[config.seed]
    per_first_layer = (config.r + bias) * config.hidden if config.depth == 2 else 0
    per_output = (config.hidden if config.depth == 2 else config.r) + bias
    return (
        2 * len(seeds) * per_seed
        + 2 * len(generators) * per_first_layer
        + sum(d_in + d_out for d_in, d_out in outputs.values()) * per_output
    )


def _unequal(projection: str, known: object, new: object) -> str:
    return (
        f"share_across_layers needs equal shapes, but projections named {projection!r} "
        f"have sizes {known} and {new}; turn share_across_layers off or adapt fewer modules"
    )


class GeneratorSeed(nn.Module):
    """A seed S, the (r, r) input of a generator: diagonal, full, or frozen at the identity (no parameter)."""

    entries: nn.Parameter | None

    def __init__(self, config: RepLoraConfig) -> None:
        super().__init__()
        self.r = r = config.r
        normal = config.seed_start == "normal"
        entries: nn.Parameter | None = None
        if config.seed == "diagonal":
            entries = nn.Parameter(torch.randn(r) if normal else torch.ones(r))
        elif config.seed == "full":
            entries = nn.Parameter(torch.randn(r, r) / r**0.5 if normal else torch.eye(r))
        self.register_parameter("entries", entries)

    def forward(self, like: Tensor) -> Tensor:
        """Return S (r, r) on the device and in the precision of `like`."""
        if self.entries is None:
            return torch.eye(self.r, device=like.device, dtype=like.dtype)
        return (torch.diag(self.entries) if self.entries.ndim == 1 else self.entries).to(like)


class Generator(nn.Module):
    """An MLP that turns a seed S (r, r) into one factor (r, width_k) for each projection k.

    ``depth=2``: ``act(S U + c) P_k + d_k`` with U (r, h), which the projections share, and P_k (h, width_k).
    ``depth=1``: ``act(S P_k + d_k)`` with P_k (r, width_k). Weights are stored transposed, as in `nn.Linear`.
    """

    def __init__(self, config: RepLoraConfig) -> None:
        super().__init__()
        self.bias = config.generator_bias
        self.activation = ACTIVATIONS[config.activation]()
        self.output_inputs = config.r if config.depth == 1 else config.hidden
        self.first_layer: nn.Linear | None = None
        if config.depth == 2:
            self.first_layer = nn.Linear(config.r, config.hidden, bias=self.bias)
            nn.init.xavier_uniform_(self.first_layer.weight)
            if self.bias:
                nn.init.zeros_(self.first_layer.bias)
        self.output_layers = nn.ModuleDict()

    def add_projection(self, projection: str, width: int, seed: GeneratorSeed, start: Start) -> None:
        """Give `projection` an output layer, unless it has one because generators are shared across layers.

        Args:
            projection: name of the projection.
            width: columns of the factor; d_in of the projection for A, d_out for B.
            seed: the seed that will be the input, for the scale of the start.
            start: ``"zero"``, ``"lora"`` (LoRA's scale, no bias) or ``"random"`` (LoRA's scale, bias
                included).

        Raises:
            ValueError: there is an output layer of another width.
        """
        key = _output_key(projection)
        if key in self.output_layers:
            known = self.output_layers[key].out_features
            if known != width:
                raise ValueError(_unequal(projection, known, width))
            return
        output = nn.Linear(self.output_inputs, width, bias=self.bias)
        present = next(self.parameters(), None)
        if present is not None:
            # An earlier projection may have moved this generator to another device or precision.
            output = output.to(present.device, present.dtype)
        self.output_layers[key] = output
        if start == "zero":
            nn.init.zeros_(output.weight)
        else:
            self._match_lora(output, seed)
        if self.bias:
            bound = width**-0.5 if start == "random" else 0.0
            nn.init.uniform_(output.bias, -bound, bound)

    @torch.no_grad()
    def _match_lora(self, output: nn.Linear, seed: GeneratorSeed) -> None:
        """Draw P_k such that the factor's entries have variance 1 / (3 width), as LoRA's A at its start.

        The scale of A is then that of LoRA for any seed, hidden width and activation.
        """
        energy = self._output_input(seed(output.weight)).square().sum(dim=1).mean()
        energy = torch.where(energy > 0, energy, torch.ones_like(energy))
        output.weight.uniform_(-1.0, 1.0).mul_((output.out_features * energy).rsqrt())

    def _output_input(self, seed: Tensor) -> Tensor:
        return seed if self.first_layer is None else self.activation(self.first_layer(seed))

    def forward(self, seed: GeneratorSeed, projection: str) -> Tensor:
        """Return the factor (r, width) of `projection`."""
        output = self.output_layers[_output_key(projection)]
        factor = output(self._output_input(seed(output.weight)))
        return self.activation(factor) if self.first_layer is None else factor


def _output_key(projection: str) -> str:
    # nn.ModuleDict refuses the names of its methods, such as `keys` and `values`.
    return f"to_{projection}"


class SeedPair(nn.Module):
    """The seeds of A and B."""

    def __init__(self, config: RepLoraConfig) -> None:
        super().__init__()
        self.seed_a = GeneratorSeed(config)
        self.seed_b = GeneratorSeed(config)


class GeneratorPair(nn.Module):
    """The generators of A and B."""

    def __init__(self, config: RepLoraConfig) -> None:
        super().__init__()
        self.init_weights = config.init_weights
        self.generator_a = Generator(config)
        self.generator_b = Generator(config)

    def add_projection(self, projection: str, d_in: int, d_out: int, seeds: SeedPair) -> None:
        """Give `projection`, which maps d_in features to d_out, its output layers in both generators."""
        start_a: Start = "lora" if self.init_weights else "random"
        start_b: Start = "zero" if self.init_weights else "random"
        self.generator_a.add_projection(projection, d_in, seeds.seed_a, start_a)
        self.generator_b.add_projection(projection, d_out, seeds.seed_b, start_b)

    def forward(self, seeds: SeedPair, projection: str) -> tuple[Tensor, Tensor]:
        """Return the factors A (r, d_in) and B (d_out, r) of `projection`, in the generators' precision."""
        device = next(self.parameters()).device.type
        # Under autocast the trained factors would differ from those merged and exported without it.
        available = torch.amp.is_autocast_available(device)
        with torch.autocast(device, enabled=False) if available else nullcontext():
            a = self.generator_a(seeds.seed_a, projection)
            b = self.generator_b(seeds.seed_b, projection).T
        return a, b
