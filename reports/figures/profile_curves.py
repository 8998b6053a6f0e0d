"""How time and memory grow with the batch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from parbench.bench.profile.measurement import STEP
from parbench.bench.profile.result import Profile
from parbench.bench.util.files import explained, write_atomically
from parbench.reports.figures.style import MOST_LEGEND, PAGE_WIDTH, figure_style, looks_of
from parbench.reports.figures.text import fit_apart
from parbench.reports.profile.summary import CandidateRow, rows_of


def write_curves(profile: Profile, path: Path) -> None:
    """Draw the median step and the peak memory of every candidate against the batch size.

    Raises:
        UserError: the file cannot be written.
    """
    rows = [row for row in rows_of(profile) if row.seconds(STEP) is not None]
    with figure_style():
        figure = _figure(rows, profile.batches)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
    with explained(path):
        write_atomically(path, content.getvalue())


def _figure(rows: Sequence[CandidateRow], batches: Sequence[int]) -> Figure:
    looks = looks_of(row.method for row in rows)
    figure = Figure(figsize=(PAGE_WIDTH, 3), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for (name, look), label in zip(looks.items(), fit_apart(list(looks), MOST_LEGEND), strict=True):
        own = sorted((row for row in rows if row.method == name), key=lambda row: row.batch)
        sizes = [row.batch for row in own]
        time.plot(sizes, [row.timings[STEP].median for row in own], label=label, **look.mean)
        low, high = ([getattr(row.timings[STEP], end) for row in own] for end in ("p5", "p95"))
        time.fill_between(sizes, low, high, color=look.colour, alpha=0.15, linewidth=0)
        memory.plot(sizes, [peak_gib(row) for row in own], **look.mean)
    for axes, label in ((time, "training step (s), 5th to 95th percentile"), (memory, _memory_label(rows))):
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(batches), labels=[str(batch) for batch in batches], minor=False)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel("batch")
        axes.set_ylabel(label)
    figure.legend(loc="outside right upper")
    return figure


def peak_gib(row: CandidateRow) -> float:
    """Return a row's peak memory in GiB: the accelerator's where there is one, else the process's."""
    peak = row.peak_process if row.peak_device is None else row.peak_device
    return (peak or 0) / 2**30


def _memory_label(rows: Sequence[CandidateRow]) -> str:
    on_device = any(row.peak_device is not None for row in rows)
    return "peak memory of the accelerator (GiB)" if on_device else "peak memory of the process (GiB)"
