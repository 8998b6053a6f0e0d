"""Gate as a method: how the tuner is configured, sized and tuned."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from parbench.bench.util.reference import Reference
from parbench.methods.architecture import ModuleNames
from parbench.methods.base import Dimension, Method, Setting, SizeKnob
from parbench_example.tuner import GateConfig


class GateSetting(Setting):
    learning_rate: PositiveFloat = 1e-2
    head_learning_rate: PositiveFloat = 1e-3
    gates: PositiveInt = 8


class Gate(Method[GateSetting]):
    """W' = diag(1 + g) W, where blocks of outputs share a g, zero at the start."""

    name = "gate"
    reference = Reference("An example, published nowhere", 2026, "parbench")
    setting_type = GateSetting
    size_knob = SizeKnob("gates", choices=(1, 2, 4, 8, 16, 32, 64, 128, 256))
    search_space = (Dimension("learning_rate", 1e-3, 1e-1),)

    def config(self, names: ModuleNames, setting: GateSetting) -> GateConfig:
        return GateConfig(gates=setting.gates, target_modules=list(setting.target_modules or names.query_value))


GATE = Gate()
