"""Methods of known cost, offered to a child process as an outside package."""

import time

import torch

from parbench.bench.util.reference import Reference
from parbench.methods.lora import Lora, LoraSetting

SLEEP_SECONDS = 0.1
HOARDED_BYTES = 100 << 20


class Planted(Lora):
    reference = Reference("None", 2026, "nowhere")
    setting_type = LoraSetting

    def __init__(self, name, hook):
        self.name = name
        self._hook = hook

    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        adapted.register_forward_hook(self._hook)
        return adapted


def _sleep(module, inputs, output):
    time.sleep(SLEEP_SECONDS)


def _hoard(module, inputs, output):
    # As a method does that keeps activations it does not need: nothing of it is freed while the model lives.
    kept = module.__dict__.setdefault("_hoarded", [])
    kept.append(torch.ones(HOARDED_BYTES // 4))


SLUGGISH = Planted("sluggish", _sleep)
HOARDER = Planted("hoarder", _hoard)
