"""LoCA on one linear layer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from parbench.methods.from_peft.tuner import AddedUpdateLayer, FullPrecisionParameterDict
from parbench.methods.loca.basis import CosineBasis
from parbench.methods.loca.config import LOCATION_CLAMPS, LocaConfig
from parbench.methods.loca.update import CosineUpdate
from parbench.methods.quantisation import is_quantised
from parbench.methods.spectral.fused import DeltaCache, foldable, fused_linear, total_delta, update_linear
from parbench.methods.spectral.spectrum import Cells, SparseSpectrum
from parbench.methods.spectral.tensor_cache import TensorCache

COEFFICIENTS = "loca_coefficients"
LOCATIONS = "loca_locations"

TEST_INIT_STD = 0.02
"""Standard deviation of the coefficients under ``init_weights=False``."""


class LocaLayer(AddedUpdateLayer):
    """The parameters of LoCA on one layer with a ``p x q`` weight, by adapter name.

    `loca_coefficients` holds ``(B,)`` and `loca_locations` ``(2, B)``, rows first, in units of the weight's
    height and width. Both are float32, or float64 for a float64 base layer, whatever lower precision the base
    layer has or is cast to: bfloat16 would put the locations on a grid coarser than the cells.
    """

    adapter_layer_names = (COEFFICIENTS, LOCATIONS)
    other_param_names = ("loca_alpha", "loca_upper", "loca_keep_update")

    def __init__(self, base_layer: nn.Module) -> None:
        self.base_layer = base_layer
        self.loca_coefficients = FullPrecisionParameterDict()
        self.loca_locations = FullPrecisionParameterDict()
        self.loca_alpha: dict[str, float] = {}
        self.loca_upper: dict[str, float] = {}
        self.loca_keep_update: dict[str, bool | None] = {}
        self.frozen_peft_weight_names: dict[str, tuple[str, ...]] = {}
        self.merged_adapters: list[str] = []
        self._disable_adapters = False

        base = self.get_base_layer()
        if isinstance(base, nn.Linear):
            self.in_features, self.out_features = base.in_features, base.out_features
        elif isinstance(base, Conv1D):
            # Under DeepSpeed ZeRO-3 the weight is empty here and carries its real shape beside.
            self.in_features, self.out_features = getattr(base.weight, "ds_shape", base.weight.shape)
        else:
            raise TypeError(f"LoCA adapts torch.nn.Linear and transformers' Conv1D, not {type(base).__name__}.")
        self.transposed = isinstance(base, Conv1D)
        self._on_quantised = is_quantised(base)
        self._spectrum = SparseSpectrum(self.out_features, self.in_features, CosineBasis, dense=not self._on_quantised)
        self._kept = DeltaCache()
        self._placed: dict[str, TensorCache[tuple[Cells, Tensor]]] = {}

    def update_layer(self, adapter_name: str, config: LocaConfig, module_name: str) -> None:
        """Add the adapter to this layer, which is called `module_name` in the model.

        Raises:
            ValueError: `n_frequency` exceeds the number of entries of the weight.
        """
        pattern = get_pattern_key(list(config.n_frequency_pattern), module_name)
        n_frequency = config.n_frequency_pattern.get(pattern, config.n_frequency)
        if n_frequency > self.out_features * self.in_features:
            raise ValueError(
                f"LocaConfig: n_frequency is {n_frequency} but the weight of {module_name} has only "
                f"{self.out_features} x {self.in_features} = {self.out_features * self.in_features} entries; "
                "lower n_frequency, or give this module its own value in n_frequency_pattern."
            )
        dtype = torch.float64 if self.get_base_layer().weight.dtype == torch.float64 else torch.float32
        generator = _generator(config.location_seed, module_name)
        # Drawn on the CPU, so that a seed gives the same locations on every device.
        locations = torch.rand(2, n_frequency, generator=generator, device="cpu", dtype=dtype)
        coefficients = torch.zeros(n_frequency, device="cpu", dtype=dtype)
        if not config.init_weights:
            coefficients.normal_(std=TEST_INIT_STD, generator=generator)

        self.loca_alpha[adapter_name] = config.alpha
        self.loca_upper[adapter_name] = LOCATION_CLAMPS[config.location_clamp]
        self.loca_keep_update[adapter_name] = config.keep_update
        self.loca_coefficients[adapter_name] = nn.Parameter(coefficients)
        self.loca_locations[adapter_name] = nn.Parameter(locations)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # peft also calls this when it loads an adapter; its own version casts to the base layer's dtype.
        base_device, _ = self._get_base_layer_device_and_dtype(self.get_base_layer())
        target = device or base_device
        for group in (self.loca_coefficients, self.loca_locations):
            parameter = group.get(adapter_name)
            # A meta tensor gets its values from a file later.
            if parameter is not None and not parameter.is_meta and parameter.device != target:
                group[adapter_name] = nn.Parameter(parameter.detach().to(target), parameter.requires_grad)

    def freeze(self, adapter_name: str, groups: Collection[str]) -> None:
        """Freeze these parameter groups (`COEFFICIENTS`, `LOCATIONS`) of the adapter, and train the others.

        A frozen group loses its gradient, so that the optimiser neither moves nor decays it. It stays frozen when
        adapters are disabled and enabled.
        """
        self.frozen_peft_weight_names[adapter_name] = tuple(groups)
        for group in self.adapter_layer_names:
            parameter = getattr(self, group)[adapter_name]
            parameter.requires_grad_(group not in groups)
            if group in groups:
                parameter.grad = None

    def in_training(self, adapter_name: str) -> bool:
        """Whether any group of the adapter trains; false if it was loaded for inference or is not in this layer."""
        groups = [getattr(self, group) for group in self.adapter_layer_names]
        return any(adapter_name in group and group[adapter_name].requires_grad for group in groups)

    @torch.no_grad()
    def get_delta_weight(self, adapter: str) -> Tensor:
        """``alpha dW``, detached, in at least float32 and in the orientation of the base layer's weight."""
        update, parameters = self._update(adapter)
        delta = total_delta([update], parameters)
        return delta.T if self.transposed else delta

    def _update(self, adapter: str) -> tuple[CosineUpdate, tuple[Tensor, Tensor]]:
        """The update of the weight by the adapter, and its parameters."""
        placed = self._placed.setdefault(adapter, TensorCache())
        update = CosineUpdate(self._spectrum, self.loca_alpha[adapter], self.loca_upper[adapter], placed=placed)
        return update, (self.loca_coefficients[adapter], self.loca_locations[adapter])

    def _keeps_update(self, adapter: str, device: torch.device) -> bool:
        choice = self.loca_keep_update[adapter]
        if choice is not None:
            return choice
        # Building takes longest on the CPU; in training, memory is needed for activations.
        return device.type == "cpu" and not torch.is_grad_enabled() and not self._on_quantised

    def _active_here(self) -> list[str]:
        return [adapter for adapter in self.active_adapters if adapter in self.loca_coefficients]


class LocaLinear(nn.Module, LocaLayer):
    """LoCA on a `torch.nn.Linear` or transformers' `Conv1D`.

    ``y = x (W + alpha dW)^T + b``, with one such term per active adapter, or ``base(x) + alpha x dW^T`` where the base
    layer cannot be replaced by a product with its weight; see `parbench.methods.spectral.fused`.
    """

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: LocaConfig, module_name: str) -> None:
        super().__init__()
        LocaLayer.__init__(self, base_layer)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config, module_name)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`x` has shape ``(..., q)``; returns ``(..., p)`` in the dtype of the base layer's output."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        adapters = [] if self.disable_adapters or self.merged else self._active_here()
        if not adapters:
            return self.base_layer(x, *args, **kwargs)
        pairs = [self._update(adapter) for adapter in adapters]
        updates = [update for update, _ in pairs]
        parameters = [parameter for _, own in pairs for parameter in own]
        kept = self._kept if all(self._keeps_update(adapter, x.device) for adapter in adapters) else None
        if kept is None:
            self._kept.clear()
        base = self.base_layer
        if not (args or kwargs) and foldable(base, x):
            return fused_linear(base, x, updates, parameters, kept)
        result = base(x, *args, **kwargs)
        x = self._cast_input_dtype(x, result.dtype)
        return result + update_linear(x, updates, parameters, kept)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Return true: LoCA adds to the weight, so peft can convert it to LoRA by a truncated SVD."""
        return True

    def __repr__(self) -> str:
        return "loca." + super().__repr__()


def _generator(seed: int | None, module_name: str) -> torch.Generator | None:
    """A generator seeded per module: with one seed for all, every module would draw the same locations."""
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed}:{module_name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
