"""peft's FourierFT layer with one matrix product, and gradients of the trained entries only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from peft.tuners.fourierft import FourierFTLinear
from torch import Tensor, nn

from parbench.methods.fourierft_fast.basis import FourierBasis
from parbench.methods.from_peft.tuner import FullPrecisionParameterDict, check_mergeable
from parbench.methods.quantisation import is_quantised
from parbench.methods.spectral.fused import DeltaCache, foldable, fused_linear, update_linear
from parbench.methods.spectral.precision import at_least_float32
from parbench.methods.spectral.spectrum import Cells, SparseSpectrum
from parbench.methods.spectral.tensor_cache import TensorCache
from parbench.methods.spectral.update import SpectralUpdate


@dataclass(frozen=True)
class FourierUpdate(SpectralUpdate):
    """FourierFT's `parbench.methods.spectral.fused.Update`, ``scaling Re(ifft2(S))``.

    The parameters are the trained entries of ``S``, shape ``(n,)``, and their places, int64 ``(2, n)``, rows first. The
    wave of the entry at ``(u, v)`` is ``cos(a + b) = cos a cos b - sin a sin b``, where ``a = 2 pi i u / p`` and
    ``b = 2 pi j v / q``: two products of basis vectors.

    Attributes:
        spectrum: of `FourierBasis`, in the shape of the weight.
        scaling: factor on the transform.
    """

    scaling: float

    cells_of_each: ClassVar[int] = 2

    def entries(self, coefficients: Tensor, places: Tensor) -> tuple[Tensor, Cells]:
        """Two per entry of ``S``: all products of cosines, then all of sines."""
        cells, signs = self._products(places)
        values = at_least_float32(coefficients) * self._unit
        return torch.cat((values, values * signs)), cells

    def first_gradient(self, entries: Tensor, *parameters: Tensor) -> Tensor:
        """The gradient of the entries of ``S``."""
        values, places = parameters
        cosines, sines = entries.chunk(2)
        _, signs = self._products(places)
        return (self._unit * (cosines + sines * signs)).to(values.dtype)

    def gradients(
        self, grad_y: Tensor, x: Tensor, needed: Sequence[bool], *parameters: Tensor
    ) -> tuple[Tensor | None, None]:
        """The gradient of the entries, if it is `needed`; their places are fixed."""
        values, places = parameters
        if not needed[0]:
            return None, None
        cells, _ = self._products(places)
        return self.first_gradient(self.spectrum.entries_of_product(grad_y, x, cells), values, places), None

    @property
    def _unit(self) -> float:
        p, q = self.spectrum.shape
        return self.scaling / (p * q)

    def _products(self, places: Tensor) -> tuple[Cells, Tensor]:
        """Basis vectors of rows and columns, of the cosines and then of the sines, ``(2n,)``, and the sines' signs."""

        def found() -> tuple[Cells, Tensor]:
            slots, signs = [], -torch.ones_like(places[0])
            for axis, size in zip(places, self.spectrum.shape, strict=True):
                # Frequencies above half the size are negative ones: the same cosine, the opposite sine.
                backwards = axis > size // 2
                cosine = 2 * torch.where(backwards, size - axis, axis)
                slots.append(torch.cat((cosine, cosine + 1)))
                signs = torch.where(backwards, -signs, signs)
            return self.spectrum.cells(slots[0], slots[1]), signs

        return self.placed.of(places, None, found)


class FastFourierFTLinear(FourierFTLinear):
    """peft's `FourierFTLinear` with cheaper forward and backward passes.

    ``y = x (W + dW)^T + b``, see `parbench.methods.spectral.fused`. Made by `compute_fast`.
    """

    _spectrum: SparseSpectrum
    _kept: DeltaCache
    _placed: dict[str, TensorCache[tuple[Cells, Tensor]]]
    _keep_update: bool | None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map ``(..., q)`` to ``(..., p)``, in the dtype of `x`, as peft does."""
        adapters = [adapter for adapter in self.active_adapters if adapter in self.fourierft_spectrum]
        if self.disable_adapters or self.merged or not adapters:
            return super().forward(x, *args, **kwargs)
        updates = [
            FourierUpdate(
                self._spectrum, self.fourierft_scaling[adapter], placed=self._placed.setdefault(adapter, TensorCache())
            )
            for adapter in adapters
        ]
        parameters = [tensor for adapter in adapters for tensor in self._parameters_of(adapter)]
        on_cpu = x.device.type == "cpu" and not is_quantised(self.get_base_layer())
        keep = on_cpu if self._keep_update is None else self._keep_update
        kept = self._kept if keep else None
        if not (args or kwargs) and foldable(self.base_layer, x):
            return fused_linear(self.base_layer, x, updates, parameters, kept).to(x.dtype)
        result = self.base_layer(x, *args, **kwargs)
        return (result + update_linear(x.to(result.dtype), updates, parameters, kept)).to(x.dtype)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Merge as peft does.

        Raises:
            ValueError: the base weight is quantised; or, with ``safe_merge``, the merged weight is not finite.
        """
        for adapter in adapter_names or self.active_adapters:
            if adapter in self.fourierft_spectrum:
                check_mergeable(self.get_base_layer().weight, adapter)
        super().merge(safe_merge, adapter_names)

    def unmerge(self) -> None:
        """Unmerge as peft does.

        Raises:
            ValueError: the base weight was quantised after merging.
        """
        for adapter in self.merged_adapters:
            check_mergeable(self.get_base_layer().weight, adapter)
        super().unmerge()

    def _parameters_of(self, adapter: str) -> tuple[Tensor, Tensor]:
        values, places = self.fourierft_spectrum[adapter], self.indices[adapter]
        if places.device != values.device:  # moved once; peft keeps them on the CPU
            places = self.indices[adapter] = places.to(values.device)
        return values, places


def compute_fast(model: nn.Module, keep_update: bool | None = None) -> None:
    """Replace the computation of all FourierFT layers of a model in place.

    Call it again after adding an adapter with further target modules.

    Args:
        keep_update: whether each layer caches its weight update until the parameters change, which takes as much memory
            as the adapted weights (see `parbench.methods.loca.LocaConfig`). Default: on the CPU, where building it
            takes longest.

    Raises:
        ValueError: there are no FourierFT layers.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, FourierFTLinear)]
    if not layers:
        raise ValueError("This model has no FourierFT layers; make it with get_peft_model and a FourierFTConfig first.")
    for layer in layers:
        layer.__class__ = FastFourierFTLinear
        dense = not is_quantised(layer.get_base_layer())
        layer._spectrum = SparseSpectrum(layer.out_features, layer.in_features, FourierBasis, dense)
        layer._kept = DeltaCache()
        layer._placed = {}
        layer._keep_update = keep_update
        layer.fourierft_spectrum.__class__ = FullPrecisionParameterDict
