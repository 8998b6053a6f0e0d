"""Where the repository's folders are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a child process that is to find `parbench` has on its PYTHONPATH.
SOURCE = ROOT / ".src"
SUPPORT = ROOT / "tests" / "support"
EXAMPLE_PACKAGE = ROOT / "tests" / "example_package"
