"""Checks that no file of Python is longer than 350 lines, and no function longer than 60."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (".ci", ".src/parbench", "bench", "methods", "reports", "tasks", "tests")
FILE_LINES = 350
FUNCTION_LINES = 60


def python_files() -> Iterator[Path]:
    """Yield the project's files, each once: the links in .src/parbench are not followed."""
    for folder in FOLDERS:
        top = ROOT / folder
        yield from sorted(path for path in top.rglob("*.py") if not any(part.is_symlink() for part in path.parents))


def too_long(path: Path) -> Iterator[str]:
    """Yield a sentence for the file and for each of its functions over the limit."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{name}: {lines} lines (at most {FILE_LINES})"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines (at most {FUNCTION_LINES})"


def main() -> int:
    """Print what is too long; return 1 if anything is."""
    found = [sentence for path in python_files() for sentence in too_long(path)]
    sys.stderr.write("".join(f"{sentence}\n" for sentence in found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
