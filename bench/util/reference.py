"""Where something was published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A publication, by what a reader needs to find it."""

    title: str
    year: int
    venue: str
    arxiv: str | None = None

    def __str__(self) -> str:
        arxiv = f", arXiv {self.arxiv}" if self.arxiv else ""
        return f"{self.title} ({self.venue} {self.year}{arxiv})"
