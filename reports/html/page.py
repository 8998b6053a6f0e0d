"""One self-contained page: leaderboards, published numbers, figures, failures and every run."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from parbench.bench.store.store import Store
from parbench.bench.util.files import explained, write_atomically
from parbench.reports.charts import REPLACED, Chart, Charts
from parbench.reports.claims.judge import Judged
from parbench.reports.claims.tables import claims_section
from parbench.reports.data_efficiency import NOTE, EfficiencyTable
from parbench.reports.deployment.tables import Deployed
from parbench.reports.every_budget import once
from parbench.reports.figures import CAPTIONS, History, Picture, Reason
from parbench.reports.figures.forest import Forest
from parbench.reports.frame import Frame
from parbench.reports.html.headings import AFTER, HEADINGS, PART_CAPTIONS
from parbench.reports.html.runs import cleaned, extras_json, runs_json, script_json
from parbench.reports.html.thumbnails import Thumbnails
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.parameter_budgets import NOTE_ON_BUDGETS
from parbench.reports.profile.costs import NOTE as PROFILE_NOTE
from parbench.reports.profile.costs import Profiled
from parbench.reports.published import Reproduced, not_joined, reproduction_table
from parbench.reports.render import one_line
from parbench.reports.tables import SMALL_LABEL, Table, how_ended, is_counted

FILE = "index.html"
MOST_SVG_BYTES = 1_500_000  # beyond it a figure is embedded as PNG
PIXELS_PER_INCH = 110  # of a figure, whose letters are those of a printed page

_OWN_PLACE = {"title", "label", "verdict", "conditions", "warnings", "scores"}


@dataclass(frozen=True)
class Page:
    """What a page is made from.

    Attributes:
        frame: the runs.
        boards: the leaderboards. Every attribute that is a table or a tuple of texts or tables is shown, in their
            order, so that what a leaderboard comes to hold is on the page.
        pictures: by name, see `parbench.reports.figures.CAPTIONS`: each drawn, or why not.
        reproduced: measured beside published.
        histories: training losses by run id.
        store: where the runs' per-example rows are, of which each panel shows some; ``None`` shows none.
        data_efficiency: scores by share of the training split.
        forests: of the leaderboards, in their order.
        smaller: leaderboards of smaller shares, which are folded up.
        profiled: costs of the rows from a profile, if there is one.
        not_computed: the parts that are missing because they could not be computed, with the reason.
        charts: the interactive figures, which replace static ones where the page's script runs.
        claims: what the records show of claims of papers.
        by_budget: scores by parameter budget, where there are two or more.
        deployment: what the trained adapters can be used for, where it was measured.
    """

    frame: Frame
    boards: Sequence[Leaderboard]
    pictures: Mapping[str, Picture | Reason] = field(default_factory=dict)
    reproduced: Sequence[Reproduced] = ()
    histories: Mapping[str, History] = field(default_factory=dict)
    store: Store | None = None
    data_efficiency: Sequence[EfficiencyTable] = ()
    forests: Sequence[Forest] = ()
    smaller: Sequence[Leaderboard] = ()
    profiled: Profiled | None = None
    not_computed: Sequence[str] = ()
    charts: Charts | None = None
    claims: Judged = field(default_factory=Judged)
    by_budget: Sequence[EfficiencyTable] = ()
    deployment: Deployed | None = None


@dataclass(frozen=True)
class _Part:
    """A table or a list of a leaderboard."""

    kind: str
    key: str
    name: str
    content: Any
    note: str = ""


@dataclass(frozen=True)
class _Article:
    """A leaderboard in the page: what is shown at once, and what is folded, by heading."""

    board: Leaderboard
    forest: _ShownForest | None
    folded: Mapping[str, Sequence[_Part]]
    chart: Chart | None = None


@dataclass(frozen=True)
class _ShownForest:
    """A forest plot in the page, and its data for narrow screens."""

    wide: _Shown
    narrow: _Shown


@dataclass(frozen=True)
class _Shown:
    """A figure in the page: its data and its width in pixels, or why there is none."""

    name: str
    caption: str
    uri: Markup | None
    width: int
    reason: str
    is_replaced: bool = False


def write_html(page: Page, directory: Path) -> Path:
    """Write ``index.html``, which holds everything it shows; the same records give the same bytes.

    Args:
        page: what it is made from.
        directory: where to write; it is made if need be.

    Returns:
        The file.

    Raises:
        UserError: the directory cannot be written to.
    """
    text = render_page(page)
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / FILE, text)
    return directory / FILE


def render_page(page: Page) -> str:
    """Return the page as HTML.

    Whatever the data hold is shown as text: the template escapes it, the script sets it as text, and the content
    security policy allows this page's own script and style alone, nothing from outside.
    """
    runs = once(page.frame.runs)
    script, style = _resource("page.js"), _resource("page.css")
    charts = page.charts
    drawing = [charts.library.script, _resource("charts.js")] if charts else []
    thumbnails = Thumbnails()
    extras = extras_json(page.store, runs, page.histories, thumbnails)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            policy=_policy([*drawing, script], [style]),
            script=Markup(script),  # noqa: S704 - our own file
            style=Markup(style),  # noqa: S704 - our own file
            label=SMALL_LABEL if bool(runs["small"].any()) else None,
            all_small=bool(runs["small"].all()),
            counts=_counts(page.frame),
            boards=_articles(page),
            claims=claims_section(page.claims),
            data_efficiency=page.data_efficiency,
            data_efficiency_note=NOTE,
            by_budget=page.by_budget,
            by_budget_note=NOTE_ON_BUDGETS,
            smaller=[_Article(board, None, _folded(board)) for board in page.smaller],
            profiled=page.profiled,
            profile_note=PROFILE_NOTE,
            deployment=page.deployment,
            reproduction=_reproduction(page.reproduced),
            pictures=[_shown(name, picture, charts) for name, picture in page.pictures.items()],
            charts=charts.others if charts else (),
            library=charts.library if charts else None,
            licences=Markup(escape(charts.library.licences)) if charts else "",  # noqa: S704 - of several lines
            charts_data=Markup(_charts_json(charts)) if charts else "",  # noqa: S704 - JSON, see script_json
            library_script=Markup(drawing[0]) if charts else "",  # noqa: S704 - has no markup, see Library
            charts_script=Markup(drawing[1]) if charts else "",  # noqa: S704 - our own file
            not_computed=page.not_computed,
            warnings=_warnings(runs),
            failures=_failures(runs),
            unreadable=[f"{entry.path.name} {entry.reason}" for entry in page.frame.unreadable],
            runs=Markup(runs_json(runs)),  # noqa: S704 - JSON without any markup, see script_json
            extras=Markup(extras),  # noqa: S704 - as above
            thumbnails=Markup(script_json(thumbnails.encoded)),  # noqa: S704 - as above
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("parbench.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every value that is shown goes through here: no line breaks, terminal codes or reversals of direction.
        finalize=lambda value: one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters["slug"] = lambda name: name.replace("_", "-")
    return environment


def _resource(name: str) -> str:
    return (files("parbench.reports.html") / "templates" / name).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """Return the content security policy that allows these scripts and styles alone."""
    own_scripts, own_styles = (
        " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts)
        for texts in (scripts, styles)
    )
    return (
        f"default-src 'none'; script-src {own_scripts}; style-src {own_styles}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _charts_json(charts: Charts) -> str:
    content = {chart.name: chart.content() for chart in charts.every()}
    return script_json(cleaned({"charts": content, "methods": list(charts.methods)}))


def _counts(frame: Frame) -> dict[str, int]:
    runs = once(frame.runs)
    scored = int(is_counted(runs).sum())
    return {
        "runs": len(runs),
        "with a score": scored,
        "without a score": len(runs) - scored,
        "refused records": len(frame.unreadable),
    }


def _articles(page: Page) -> list[_Article]:
    forests = [*map(_shown_forest, page.forests), *[None] * len(page.boards)]
    charts = page.charts.of_boards if page.charts else {}
    pairs = enumerate(zip(page.boards, forests, strict=False), start=1)
    return [_Article(board, forest, _folded(board), charts.get(number)) for number, (board, forest) in pairs]


def _folded(board: Leaderboard) -> Mapping[str, Sequence[_Part]]:
    """Return what a leaderboard holds beside what is shown at once, whatever it holds, by heading."""
    found: dict[str, list[_Part]] = {heading: [] for heading in dict.fromkeys(HEADINGS.values())}
    for heading, part in _parts(board):
        found.setdefault(heading, []).append(part)
    return {heading: parts for heading, parts in found.items() if parts}


def _parts(board: Leaderboard) -> Iterator[tuple[str, _Part]]:
    """Yield the parts of a leaderboard with their headings."""
    columns = [str(column) for column in board.cells["column"].unique()]
    for attribute in dataclasses.fields(board):
        name, value = attribute.name, getattr(board, attribute.name)
        called = PART_CAPTIONS.get(name, name.replace("_", " ").capitalize())
        heading = HEADINGS.get(name, called)
        if name in _OWN_PLACE:
            continue
        if isinstance(value, Table) and value.rows:
            yield heading, _Part("table", name, called, value, AFTER.get(name, ""))
        elif isinstance(value, tuple) and value and all(isinstance(entry, Table) for entry in value):
            for number, table in enumerate(value, start=1):
                task = max((name for name in columns if table.caption.startswith(name)), key=len, default=called)
                part = _Part("table", f"{name}-{number}", f"{called} of {table.caption}", table, AFTER.get(name, ""))
                yield f"{task}: subsets and other metrics", part
        elif isinstance(value, tuple) and value and all(isinstance(entry, str) for entry in value):
            yield heading, _Part("list", name, called, value)


def _shown_forest(forest: Forest) -> _ShownForest:
    wide, narrow = (replace(_shown(forest.name, one), caption=forest.caption) for one in (forest.wide, forest.narrow))
    return _ShownForest(wide, narrow)


def _reproduction(rows: Sequence[Reproduced]) -> dict[str, Any] | None:
    """Return the published numbers' table, with the differences of the protocol as lists."""
    if not rows:
        return None
    table = reproduction_table(rows)
    return {
        "head": table.head,
        "differences": table.head.index("protocol differences"),
        "rows": [(texts, row.differences) for texts, row in zip(table.rows, rows, strict=True)],
        "not_joined": not_joined(rows),
    }


def _shown(name: str, picture: Picture | Reason, charts: Charts | None = None) -> _Shown:
    caption = CAPTIONS.get(name, name.replace("_", " ").capitalize())
    if isinstance(picture, Reason):
        return _Shown(name, caption, None, 0, str(picture))
    is_small = len(picture.svg) <= MOST_SVG_BYTES
    kind, content = ("svg+xml", picture.svg) if is_small else ("png", picture.png)
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    replaced = {static for chart in charts.others for static in REPLACED[chart.kind]} if charts else set()
    width = round(picture.width * PIXELS_PER_INCH)
    return _Shown(name, caption, Markup(uri), width, "", name in replaced)  # noqa: S704 - base64


def _warnings(runs: pd.DataFrame) -> list[tuple[str, int]]:
    return sorted(Counter(note for noted in runs["notes"].dropna() for note in json.loads(noted)).items())


def _failures(runs: pd.DataFrame) -> list[dict[str, str]]:
    failed = runs[~is_counted(runs)]
    return [
        {
            **{name: str(run[name]) for name in ("row", "task", "base_model", "seed", "run_id")},
            "ended": ended,
            "reason": "no reason was recorded" if pd.isna(run["reason"]) else str(run["reason"]),
        }
        for (_, run), ended in zip(failed.iterrows(), how_ended(failed), strict=True)
    ]
