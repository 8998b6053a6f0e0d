"""The small pictures of a page's samples of examples: each once, however many runs were scored on it."""

from __future__ import annotations

import base64
from typing import Any

# By which a JPEG file begins; nothing else is put into the page as an image.
_JPEG = b"\xff\xd8\xff"
MOST_BYTES, MOST_BYTES_OF_ALL = 20_000, 1_000_000


class Thumbnails:
    """Collects pictures, and names each by its place among them."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._bytes = 0

    def place(self, content: Any) -> int | None:
        """Return the place of a picture; ``None`` for what is no JPEG, or too large for the page."""
        if not isinstance(content, bytes) or not content.startswith(_JPEG) or len(content) > MOST_BYTES:
            return None
        if content not in self._places:
            if self._bytes + len(content) > MOST_BYTES_OF_ALL:
                return None
            self._bytes += len(content)
            self._places[content] = len(self._places)
        return self._places[content]

    @property
    def encoded(self) -> list[str]:
        """All pictures in their order, in base 64."""
        return [base64.b64encode(content).decode() for content in self._places]
