"""How time and memory grow with the batch."""

from __future__ import annotations

from pathlib import Path

import seaborn
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from parbench.bench.profile.measurement import STEP
from parbench.bench.profile.result import Profile
from parbench.bench.util.files import explained
from parbench.reports.profile.summary import Row, rows_of


def write_curves(profile: Profile, path: Path) -> None:
    """Draw the median step and the peak memory of every subject against the batch size.

    Raises:
        UserError: the file cannot be written.
    """
    rows = [row for row in rows_of(profile) if row.seconds(STEP) is not None]
    names = list(dict.fromkeys(row.method for row in rows))
    colours = dict(zip(names, seaborn.color_palette("husl", len(names)), strict=True))
    figure = Figure(figsize=(10, 4), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for name in names:
        own = sorted((row for row in rows if row.method == name), key=lambda row: row.batch)
        batches = [row.batch for row in own]
        time.plot(batches, [row.timings[STEP].median for row in own], marker="o", color=colours[name], label=name)
        low, high = ([getattr(row.timings[STEP], end) for row in own] for end in ("p5", "p95"))
        time.fill_between(batches, low, high, color=colours[name], alpha=0.15, linewidth=0)
        memory.plot(batches, [peak_gib(row) for row in own], marker="o", color=colours[name])
    for axes, label in ((time, "training step (s), 5th to 95th percentile"), (memory, _memory_label(rows))):
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(profile.batches), labels=[str(batch) for batch in profile.batches], minor=False)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel("batch")
        axes.set_ylabel(label)
    figure.legend(loc="outside right upper", fontsize=7)
    with explained(path):
        figure.savefig(path, dpi=150)


def peak_gib(row: Row) -> float:
    """Return a row's peak memory in GiB: the accelerator's where there is one, else the process's."""
    peak = row.peak_process if row.peak_device is None else row.peak_device
    return (peak or 0) / 2**30


def _memory_label(rows: list[Row]) -> str:
    on_device = any(row.peak_device is not None for row in rows)
    return "peak memory of the accelerator (GiB)" if on_device else "peak memory of the process (GiB)"
