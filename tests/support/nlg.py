"""What the tests of metrics of texts and of E2E NLG share: texts with their references, and published scores."""

import pytest

from parbench.tasks.metrics import java
from parbench.tasks.metrics.generation import (
    METRICS,
)

needs_java = pytest.mark.skipif(java.missing() is not None, reason=str(java.missing()))
# The official scorer prints four decimals.
PRINTED = 0.5e-4 + 1e-9
# Of the baseline TGen on the E2E test set: Dušek, Novikova and Rieser, "Findings of the E2E NLG Challenge", 2018.
TGEN = {"bleu": 0.6593, "nist": 8.6094, "meteor": 0.4483, "rouge_l": 0.6850, "cider": 2.2338}
NO_JAVA = [name for name, metric in METRICS.items() if not metric.in_java]

OUTPUTS = ["The Mill is a pub near Café Noir.", "A cheap pub.", "Blue Spice serves fish!", "Zizzi"]
REFERENCES = [
    ["The Mill is a pub close to Café Noir.", "Near Café Noir is the pub The Mill.", "The Mill: a pub near Café Noir"],
    ["It is a cheap pub by the river.", "A cheap riverside pub."],
    ["Blue Spice serves fish!"],
    ["There is a pub called Zizzi.", "Zizzi is a pub."],
]
