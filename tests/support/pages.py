"""The page of a planted store, and what a reader makes of it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from parbench.reports.frame import read_frame
from parbench.reports.html import Page, render_page
from parbench.reports.leaderboard import leaderboards
from parbench.reports.published import reproduction

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta"}


class Parsed(HTMLParser):
    """A page as a list of elements, whose nesting is checked while it is read."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), f"an attribute of {tag} comes twice"
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def shown(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag not in ("script", "style")).split())


def page_of(planter: Any, **parts: Any) -> str:
    frame = read_frame(planter.store)
    return render_page(Page(frame, leaderboards(frame), reproduced=reproduction(frame.runs), **parts))
