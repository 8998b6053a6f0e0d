"""LoCA, location-aware cosine adaptation (Du et al., ICLR 2025, arXiv 2502.06820), as a peft tuner.

Importing this package registers the tuner with peft::

    model = get_peft_model(model, LocaConfig(n_frequency=1000, target_modules=["query", "value"]))
    trainer = Trainer(model, ..., callbacks=[LocaCallback()])
"""

from parbench.methods.from_peft.registration import register_tuner
from parbench.methods.loca.config import LocaConfig
from parbench.methods.loca.layer import LocaLayer, LocaLinear
from parbench.methods.loca.model import LocaModel, LocaParameterCounts
from parbench.methods.loca.schedule import LocaCallback, LocaSchedule, Phase

__all__ = [
    "LocaCallback",
    "LocaConfig",
    "LocaLayer",
    "LocaLinear",
    "LocaModel",
    "LocaParameterCounts",
    "LocaSchedule",
    "Phase",
]

register_tuner("loca", LocaConfig, LocaModel)
