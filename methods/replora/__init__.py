"""RepLoRA as a peft tuner; importing this package registers it under the peft type ``REPLORA``."""

from parbench.methods.from_peft.registration import register_tuner

from .config import RepLoraConfig
from .export import export_lora
from .generator import parameter_count
from .layer import RepLoraLayer
from .model import RepLoraModel

__all__ = ["RepLoraConfig", "RepLoraLayer", "RepLoraModel", "export_lora", "parameter_count"]

register_tuner("replora", RepLoraConfig, RepLoraModel)
