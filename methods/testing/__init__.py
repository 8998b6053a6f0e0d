"""Does a method keep its contract? The checks that every registered method passes, for authors of others to use.

In the tests of a package of your own::

    from parbench.methods.testing import check_method

    def test_my_method() -> None:
        check_method(MY_METHOD).raise_for_failures()

The checks need no download and no accelerator: they build tiny models from configurations and take a second or two.
"""

from parbench.methods.testing.check import check_method
from parbench.methods.testing.models import TINY_MODELS, TinyModel
from parbench.methods.testing.report import Check, ConformanceError, ConformanceReport, Outcome

__all__ = [
    "TINY_MODELS",
    "Check",
    "ConformanceError",
    "ConformanceReport",
    "Outcome",
    "TinyModel",
    "check_method",
]
