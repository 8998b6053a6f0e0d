"""Keeps secrets out of files: errors of libraries quote addresses, headers and command lines."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
# A shorter value ("1", "none", a user's name) is not a secret, and is part of too many words.
_SHORTEST = 6


def redacted(text: str) -> str:
    """Return a text with the variable's name in place of every secret of this process's environment.

    A secret is the value of a variable whose name ends in KEY, TOKEN, SECRET or PASSWORD; it is found in plain and in
    URL-quoted form.
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name):
            for form in {value, quote(value, safe="")}:
                text = text.replace(form, f"[{name}]")
    return text


def redact_file(path: Path) -> None:
    """Remove the secrets from a text file, if it exists; bytes that are not UTF-8 are kept."""
    try:
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return
    after = redacted(before)
    if after != before:
        path.write_text(after, encoding="utf-8", errors="surrogateescape")
