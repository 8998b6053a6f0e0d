"""What methods with one fault each are made of, and how they are registered with the check that finds it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from peft.tuners.lora import LoraLayer
from transformers import TrainerCallback

from parbench.methods.lora import Lora

# A broken method by its name, the check that must find it, and a part of the expected reason.
Cases = dict[str, tuple[Callable[[], Lora], str, str]]


def registrar(cases: Cases) -> Callable[[str, str], Callable[[type[Lora]], type[Lora]]]:
    """Return a decorator that registers a broken method with the check that must find it and a part of the reason."""

    def caught(check: str, sentence: str) -> Callable[[type[Lora]], type[Lora]]:
        def register(broken: type[Lora]) -> type[Lora]:
            cases[broken.__name__] = (broken, check, sentence)
            return broken

        return register

    return caught


def lora_layers(model):
    """Return the adapted layers of a model."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


@dataclass
class Doing(TrainerCallback):
    """Does something to the model after every optimiser step; ``steps`` counts those of this process."""

    change: Callable
    steps: int = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1
        with torch.no_grad():
            self.change(kwargs["model"], self.steps)
