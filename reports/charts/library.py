"""The charting library that is embedded in the page: Vega, Vega-Lite and Vega-Embed, as vl-convert carries them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import vl_convert

# The page's own script finds the library by this name.
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
# What would end the script's element, or begin another one in it.
_MARKUP = re.compile(r"<(?=/script|script|!--)", re.IGNORECASE)


@dataclass(frozen=True)
class Library:
    """A script that defines ``vegaEmbed``.

    Attributes:
        script: JavaScript without any markup.
        versions: of what it holds.
        licences: under which it may be copied.
    """

    script: str
    versions: str
    licences: str


@cache
def library() -> Library:
    """Return the library, bundled from what the installed vl-convert carries; nothing is loaded from elsewhere.

    Raises:
        RuntimeError: the bundle cannot be made, or cannot stand in a page.
    """
    script = vl_convert.javascript_bundle(_SNIPPET)
    if _MARKUP.search(script):
        script = _MARKUP.sub(r"\\x3c", script)
    versions = (
        f"Vega {vl_convert.get_vega_version()}, Vega-Lite {vl_convert.get_vegalite_versions()[-1]}, "
        f"Vega-Embed {vl_convert.get_vega_embed_version()}"
    )
    return Library(script, versions, (files("parbench.reports.charts") / "NOTICE.txt").read_text(encoding="utf-8"))
