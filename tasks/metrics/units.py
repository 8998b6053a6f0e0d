"""Units of metrics: how a value is shown, and the bounds that it cannot pass.

A unit belongs to the metric and never depends on the size of a value: a NIST score of 0.05 is not 5 %, and a mean
log-likelihood of -0.8 is not -80.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Unit:
    """The unit of a metric.

    Attributes:
        name: as files name it.
        factor: what values are multiplied by when shown.
        places: decimals when shown.
        low: the least possible value.
        high: the greatest possible value.
    """

    name: str
    factor: int = 1
    places: int = 2
    low: float = -math.inf
    high: float = math.inf

    @property
    def mark(self) -> str:
        """What follows the metric in the head of a column of values that are shown unscaled; else nothing."""
        return "" if self.factor == 100 else ", as is"

    def text(self, value: float, sign: bool = False) -> str:
        """Return a value, or a difference of two, as tables show it."""
        return f"{self.factor * value:{'+' if sign else ''}z.{self.places}f}"


FRACTION = Unit("fraction", factor=100, places=1, low=0.0, high=1.0)
CORRELATION = Unit("correlation", factor=100, places=1, low=-1.0, high=1.0)
LOG_LIKELIHOOD = Unit("nats per token", places=3, high=0.0)
RATING = Unit("rating from 1 to 10", low=1.0, high=10.0)
POSITIVE = Unit("unbounded, from 0", low=0.0)
CIDER = Unit("from 0 to 10", low=0.0, high=10.0)
RAW = Unit("as is")

# Metrics that several tasks share, by name. A task declares those of its own in `parbench.tasks.base.Task.units`.
UNITS: Mapping[str, Unit] = MappingProxyType(
    {
        **dict.fromkeys(("accuracy", "mean_per_class_accuracy", "f1", "acc", "acc_norm", "exact_match"), FRACTION),
        **dict.fromkeys(("matthews_correlation", "pearson", "spearman"), CORRELATION),
        **dict.fromkeys(("bleu", "bleu_4", "chrf", "meteor", "rouge_l"), FRACTION),
        "vqa_accuracy": FRACTION,
        **dict.fromkeys(("harmonic_mean", "seen_mean", "unseen_mean"), FRACTION),  # of accuracies
        "nist": POSITIVE,
        "cider": CIDER,
        "log_likelihood": LOG_LIKELIHOOD,
    }
)

# Metrics that are a number of examples, divided by that of all.
SHARES_OF_EXAMPLES = frozenset({"accuracy", "exact_match"})


def unit_among(units: Mapping[str, Unit], metric: str) -> Unit | None:
    """Return the unit declared for a metric, or for the metric that it is of a subset: ``accuracy`` of
    ``accuracy_boolq``; ``None`` where there is none.
    """
    parts = metric.split("_")
    names = ("_".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((units[name] for name in names if name in units), None)
