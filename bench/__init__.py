"""parbench: parameter-efficient fine-tuning methods at equal budgets, equal tuning effort and measured cost."""

from bench import torchvision_on_cpu

__version__ = "0.1.0"

torchvision_on_cpu.install()
