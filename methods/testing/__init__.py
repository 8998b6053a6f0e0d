"""Conformance checks of a method's contract, which every registered method passes.

In the tests of your own package::

    from parbench.methods.testing import check_method

    def test_my_method() -> None:
        check_method(MY_METHOD).raise_for_failures()

The checks do not need a download or an accelerator: they use tiny models with random weights and take a few seconds.
"""

from parbench.methods.testing.check import check_method
from parbench.methods.testing.models import TINY_MODELS, TinyModel
from parbench.methods.testing.report import Check, CheckOutcome, ConformanceError, ConformanceReport

__all__ = [
    "TINY_MODELS",
    "Check",
    "CheckOutcome",
    "ConformanceError",
    "ConformanceReport",
    "TinyModel",
    "check_method",
]
