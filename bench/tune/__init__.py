"""Equal tuning: the same number of trials for every method."""

from typing import Literal

# How trials are drawn.
Sampler = Literal["tpe", "random"]
