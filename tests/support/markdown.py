"""Names that are markup to some reader, and the tables that a Markdown reader sees."""

from __future__ import annotations

from markdown_it import MarkdownIt

HOSTILE = [
    "a|b",
    "two\nlines\r\n",
    "| --- |",
    "*bold* _under_ __dunder__ `code` ~~gone~~",
    "[link](http://example.org) <b>html</b> &amp; <!-- ",
    "back\\slash \\| pipe",
    "[red]markup[/red] :smile:",
    "\x1b[2J\x1b[31mescape \u202ereversed",
    "$x^2$ 100%",
    "matthews_correlation",
    "# 1. - +",
    "漢字 é 😀",
]


def parsed_tables(text: str) -> list[list[list[str]]]:
    """Return the cells that a Markdown reader sees in each table, as plain text."""
    tables: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    in_cell = False
    for token in tokens:
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            in_cell = True
        elif token.type == "inline" and in_cell:
            kinds = {child.type for child in token.children or []}
            assert kinds <= {"text", "text_special"}, f"{token.content!r} is read as markup: {kinds}"
            tables[-1][-1].append("".join(child.content for child in token.children or []))
            in_cell = False
    return tables
