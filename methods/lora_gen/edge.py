"""The edge: a frozen language model whose feed-forward layers take a LoRA per sample."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from parbench.bench.util.errors import did_you_mean
from parbench.methods.from_peft.tuner import check_mergeable

from .config import LoraGenConfig
from .experts import Factors
from .generator import Generated

# Tried in this order. The paper does not give the blocks of an expert for models without a gate: here there are two.
KNOWN_PROJECTIONS: tuple[tuple[str, ...], ...] = (
    ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),  # Llama, Mistral, Qwen, Gemma
    ("mlp.c_fc", "mlp.c_proj"),  # GPT-2
    ("fc1", "fc2"),  # OPT
)


class EdgeLinear(nn.Module):
    """Wraps a linear layer W of the edge: sample s gets W x + scaling * B_s A_s dropout(x).

    Without factors it is the wrapped layer.

    Attributes:
        base_layer: the frozen `nn.Linear` or `Conv1D`.
        factors: the batch's, or one for all samples; set by `Edge`.
    """

    def __init__(self, base_layer: nn.Module, config: LoraGenConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.scaling = config.scaling
        self.dropout = config.lora_dropout
        self.factors: Factors | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, tokens, d_in), or (batch * tokens, d_in) as in OPT, to rows of d_out."""
        result: Tensor = self.base_layer(x)
        if self.factors is None:
            return result
        a, b = self.factors.a.to(x.device), self.factors.b.to(x.device)
        rows = functional.dropout(x.to(a.dtype), self.dropout, self.training).reshape(len(a), -1, x.shape[-1])
        update = (rows @ a.transpose(1, 2)) @ b.transpose(1, 2)
        # Added before rounding to a half-precision edge's dtype, as in peft.
        return (result + self.scaling * update.reshape(result.shape)).to(result.dtype)


@dataclass(frozen=True)
class Projection:
    """An adapted module of the edge.

    Attributes:
        name: its name in its decoder layer, such as ``mlp.up_proj``.
        path: its name in the model, such as ``model.layers.0.mlp.up_proj``.
        module: an `nn.Linear` or a `Conv1D`.
    """

    name: str
    path: str
    module: nn.Module

    @property
    def shape(self) -> tuple[int, int]:
        """(d_in, d_out)."""
        if isinstance(self.module, nn.Linear):
            return self.module.in_features, self.module.out_features
        d_in, d_out = cast(Tensor, self.module.weight).shape
        return d_in, d_out


class Edge:
    """Wraps the feed-forward projections of a model in `EdgeLinear`, and unwraps them.

    Attributes:
        model: the causal language model, changed in place and frozen.
        layers: the projections of each decoder layer.
    """

    def __init__(self, model: PreTrainedModel, config: LoraGenConfig) -> None:
        """Wrap the model.

        Raises:
            ValueError: layers or feed-forward projections are not found, or are not linear layers.
        """
        if any(isinstance(module, EdgeLinear) for module in model.modules()):
            raise ValueError("the edge model is part of a LoraGen already; call its release_edge() first")
        self.model = model
        self.layers = find_projections(model, config.projections)
        self._modules: list[dict[str, EdgeLinear]] = []
        self._applied: Generated | None = None
        self._released = False
        self._unmerged: list[tuple[nn.Module, nn.Parameter]] = []
        model.requires_grad_(False)
        for layer in self.layers:
            wrapped = {projection.name: EdgeLinear(projection.module, config) for projection in layer}
            for projection in layer:
                # In evaluation mode if the model is.
                wrapped[projection.name].train(projection.module.training)
                model.set_submodule(projection.path, wrapped[projection.name])
            self._modules.append(wrapped)

    @property
    def shapes(self) -> list[dict[str, tuple[int, int]]]:
        """(d_in, d_out) of each projection of each layer."""
        return [{projection.name: projection.shape for projection in layer} for layer in self.layers]

    def using(self, generated: Generated | None) -> AbstractContextManager[None]:
        """Return a context in which the model has these LoRAs, or none; it can be entered repeatedly.

        Raises:
            ValueError: the model was released.
        """
        if self._released:
            raise ValueError("the edge model was released and takes no LoRA; attach a generated adapter to it instead")
        return _Using(self, generated)

    def release(self) -> PreTrainedModel:
        """Put the original layers back, with a merged update if any, and return the model; it stays frozen."""
        self._unmerged.clear()
        for layer in self.layers:
            for projection in layer:
                self.model.set_submodule(projection.path, projection.module)
        self._released = True
        return self.model

    def merge(self, generated: Generated) -> None:
        """Replace W by W + scaling * B A.

        The weights are new tensors, so that models that share the old ones, such as a cloud model, do not change.

        Raises:
            ValueError: there are several LoRAs, the model has one merged already, was released, or is quantised.
        """
        if generated.samples != 1:
            raise ValueError(f"the LoRA of one system prompt can be merged, not of {generated.samples}")
        if self._released or self._unmerged:
            raise ValueError("the edge model was released, or has a LoRA merged already; unmerge it first")
        for wrapped in self._modules:
            for name, module in wrapped.items():
                check_mergeable(module.base_layer.weight, name)
        for wrapped, factors in zip(self._modules, generated.layers, strict=True):
            for name, module in wrapped.items():
                base = module.base_layer
                self._unmerged.append((base, cast(nn.Parameter, base.weight)))
                update = (factors[name].b[0] @ factors[name].a[0]).detach().to(self._unmerged[-1][1].device)
                base.weight = _added(self._unmerged[-1][1], module.scaling * update, isinstance(base, Conv1D))

    def unmerge(self) -> None:
        """Restore the weights: bit for bit, unless the model was cast or moved in the meantime."""
        for base, weight in self._unmerged:
            merged = cast(nn.Parameter, base.weight)
            if (weight.dtype, weight.device) != (merged.dtype, merged.device):
                weight = nn.Parameter(weight.detach().to(merged), requires_grad=False)
            base.weight = weight
        self._unmerged.clear()

    def enable_checkpointing(self) -> None:
        """Recompute the layers' activations in the backward pass, with the LoRAs of their forward pass."""
        self.model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False, "context_fn": self._checkpoint_contexts}
        )

    def check_checkpointing(self) -> None:
        """Check that recomputed layers have their LoRA.

        Raises:
            ValueError: checkpointing was enabled on the model itself.
        """
        for module in self.model.modules():
            if getattr(module, "gradient_checkpointing", False):
                options = getattr(getattr(module, "_gradient_checkpointing_func", None), "keywords", {})
                if options.get("context_fn") != self._checkpoint_contexts:
                    raise ValueError(
                        "gradient checkpointing was enabled on the edge model itself, where recomputed layers would "
                        "lack their LoRA; call gradient_checkpointing_enable() of the LoraGen after it"
                    )

    def _checkpoint_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self.using(self._applied)

    def _apply(self, generated: Generated | None) -> None:
        self._applied = generated
        for number, wrapped in enumerate(self._modules):
            for name, module in wrapped.items():
                module.factors = None if generated is None else generated.layers[number][name]


def _added(weight: Tensor, update: Tensor, transposed: bool) -> nn.Parameter:
    """Return a frozen W + ``update``, rounded once to W's precision as peft does."""
    total = weight.detach() + (update.T if transposed else update)
    return nn.Parameter(total.to(weight.dtype), requires_grad=False)


class _Using(AbstractContextManager[None]):
    """A context that can be entered repeatedly, as repeated backward passes do."""

    def __init__(self, edge: Edge, generated: Generated | None) -> None:
        self.edge = edge
        self.generated = generated
        self.outer: list[Generated | None] = []

    def __enter__(self) -> None:
        self.outer.append(self.edge._applied)
        self.edge._apply(self.generated)

    def __exit__(self, *error: Any) -> None:
        self.edge._apply(self.outer.pop())


def find_projections(model: PreTrainedModel, names: Sequence[str] | None) -> list[list[Projection]]:
    """Return the adapted modules of each decoder layer, those called ``names`` or the first of `KNOWN_PROJECTIONS`.

    Raises:
        ValueError: they are not found, or are not linear layers.
    """
    count = model.config.get_text_config().num_hidden_layers
    lists = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList))
    path, layers = next(((name, module) for name, module in lists if len(module) == count), ("", nn.ModuleList()))
    present = [{name for name, _ in layer.named_modules()} for layer in layers]
    tried = KNOWN_PROJECTIONS if names is None else (tuple(names),)
    found = next((each for each in tried if present and all(set(each) <= layer for layer in present)), None)
    if found is None:
        linear = {name for layer in layers for name, module in layer.named_modules() if _is_linear(module)}
        unknown = [name for name in names or () if name not in linear]
        raise ValueError(
            f"the edge model, a {type(model).__name__}, has no decoder layers that all hold "
            f"{' or '.join(' + '.join(each) for each in tried)}; name its feed-forward modules in projections"
            f"{did_you_mean(unknown[0], linear) if unknown else ''}"
        )
    projections = [
        [Projection(name, f"{path}.{number}.{name}", layer.get_submodule(name)) for name in found]
        for number, layer in enumerate(layers)
    ]
    for projection in (projection for layer in projections for projection in layer):
        if not _is_linear(projection.module):
            raise ValueError(
                f"{projection.path} is a {type(projection.module).__name__}; projections must be nn.Linear or Conv1D"
            )
    return projections


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)
