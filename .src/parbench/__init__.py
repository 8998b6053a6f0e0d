"""parbench: parameter-efficient fine-tuning methods at equal budgets, equal tuning effort and measured cost."""

from parbench.bench.util import torchvision_on_cpu

__version__ = "0.1.0"

# Before anything imports peft or transformers.
torchvision_on_cpu.install()
