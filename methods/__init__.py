"""The methods: ways to fine-tune few parameters. Each can be used alone, without the rest of parbench."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.registry import Registry

if TYPE_CHECKING:
    from methods.base import Method

METHODS: Registry[Method] = Registry("method", entry_point_group="parbench.methods")
METHODS.register("loca", "methods.loca.method:LOCA", "Location-aware cosine adaptation (Du et al., 2025)")
METHODS.register("lora", "methods.lora:LORA", "Low-rank adaptation (Hu et al., 2021)")
