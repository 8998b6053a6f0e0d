"""A profile as tables: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from parbench.bench.profile.measurement import (
    BACKWARD,
    DECODE,
    DECODE_MERGED,
    DEQUANTISE,
    EVALUATION,
    FORWARD,
    INFERENCE,
    LOAD,
    MERGE,
    MERGED,
    OPTIMISER,
    PREFILL,
    PREFILL_MERGED,
    SPECIALISE,
    STEP,
)
from parbench.bench.profile.result import PROFILE, Profile
from parbench.bench.record.run_record import Status
from parbench.bench.util.files import explained, write_atomically
from parbench.reports.csv_files import csv_text
from parbench.reports.profile.summary import REFERENCE, CandidateRow, Spread, Timing, costs_of, rows_of
from parbench.reports.render import escape, markdown_table
from parbench.reports.tables import NOTHING, Table

Cell = Callable[[CandidateRow], str]


def profile_tables(profile: Profile) -> list[Table]:
    """Return a profile's tables: training, inference, memory, and the largest batches if they were searched."""
    rows = rows_of(profile)
    measured = [row for row in rows if row.timings]
    several = len(profile.batches) > 1
    found = [_table(caption, columns, measured, several) for caption, columns in _TABLES]
    # Columns without any measurement are left out.
    found = [_without_empty_columns(table) for table in found]
    if profile.largest:
        found.append(
            Table(
                ("method", "batch", "does not fit"),
                tuple(
                    (one.candidate.name, str(one.batch), str(one.failed) if one.failed else "none tried")
                    for one in profile.largest
                ),
                caption="Largest batch whose training step fits",
            )
        )
    return [table for table in found if table.rows and not set(table.head) <= {"method", "size", "batch"}]


def remarks(profile: Profile) -> list[str]:
    """Return the notes of the tables: failures, noise, and other load of the machine."""
    found = [profile.warning] if profile.warning else []
    rows = rows_of(profile)
    measured = [row for row in rows if row.timings]
    shared = [note for note in measured[0].notes if all(note in row.notes for row in measured)] if measured else []
    for row in rows:
        if row.status is not Status.OK:
            found.append(f"{row.method}, batch {row.batch}: {row.status.replace('_', ' ')}, {row.reason}")
        found += [f"{row.method}: {note}" for note in row.notes if note not in shared]
    found += shared
    floor = noise(profile)
    if floor is not None:
        found.append(
            f"a method's median step differs by up to {floor:.1%} between rounds: smaller differences are noise"
        )
    elif profile.rounds < 2:
        found.append("the noise is unknown after one round; give --rounds 3 or more to compare times")
    return list(dict.fromkeys(found))


def noise(profile: Profile) -> float | None:
    """Return the largest relative range of a candidate's median step over the rounds; ``None`` for a single round."""
    medians = [row.timings[STEP].rounds for row in rows_of(profile) if STEP in row.timings]
    ranges = [max(found) / min(found) - 1 for found in medians if len(found) > 1]
    return max(ranges, default=None)


def heading(profile: Profile) -> str:
    """Return workload, machine and versions in one line."""
    looked = profile.machine_load[0].load[0] if profile.machine_load else float("nan")
    return (
        f"{conditions(profile, profile.batches)}; torch {profile.versions.get('torch')}, peft "
        f"{profile.versions.get('peft')}; load average {looked:.1f}; {profile.started}"
    )


def conditions(profile: Profile, batches: Sequence[int]) -> str:
    """Return workload and machine in words, for these batch sizes."""
    work, machine = profile.workload, profile.hardware
    size = f" x {work.length} tokens" if profile.tokens > 1 else f" x {profile.frames} frames" if profile.frames else ""
    threads = machine.get("threads", "?")
    processor = f"{machine.get('cpu', '?')}, {threads} thread{'' if threads == '1' else 's'}"
    where = machine.get("accelerator") or processor
    weights = "random weights" if work.random_weights else "its own weights"
    return (
        f"{profile.base_model}, {weights}, batch {', '.join(map(str, batches))}{size}, {work.dtype}; {profile.rounds} "
        f"rounds of {profile.effort.steps} steps; {where}"
    )


def write_profile(profile: Profile, folder: Path) -> None:
    """Write ``profile.json``, ``profile.csv`` and ``profile.md``.

    Raises:
        UserError: the folder cannot be written to.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / PROFILE, profile.to_json())
        write_atomically(folder / "profile.csv", csv_text(costs_of(folder / PROFILE)))
        parts = [heading(profile), *(_markdown(table) for table in profile_tables(profile))]
        parts += ["\n".join(f"- {remark}" for remark in remarks(profile))]
        write_atomically(folder / "profile.md", "\n\n".join(parts) + "\n")


def _markdown(table: Table) -> str:
    return f"**{escape(table.caption)}**\n\n{markdown_table(table)}"


def _table(caption: str, columns: Sequence[tuple[str, Cell]], rows: Sequence[CandidateRow], several: bool) -> Table:
    batch = [("batch", lambda row: str(row.batch))] if several else []
    every: list[tuple[str, Cell]] = [("method", lambda row: row.method), ("size", lambda row: row.size), *batch]
    every += columns
    return Table(
        tuple(name for name, _ in every),
        tuple(tuple(cell(row) or NOTHING for _, cell in every) for row in rows),
        caption=caption,
    )


def _without_empty_columns(table: Table) -> Table:
    kept = [
        place
        for place in range(len(table.head))
        if place == 0 or any(row[place] not in (NOTHING, "") for row in table.rows)
    ]
    head, *rows = (tuple(line[place] for place in kept) for line in (table.head, *table.rows))
    return Table(head, tuple(rows), caption=table.caption)


def _milliseconds(phase: str) -> Cell:
    def cell(row: CandidateRow) -> str:
        seconds = row.seconds(phase)
        return "" if seconds is None else f"{1e3 * seconds:,.1f}"

    return cell


def _range(timing: Timing | None) -> str:
    return "" if timing is None else f"{1e3 * timing.p5:,.1f}-{1e3 * timing.p95:,.1f}"


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    spread = f" ({ratio.low:.2f}-{ratio.high:.2f})" if ratio.rounds > 1 else ""
    return f"{ratio.median:.2f}{spread}"


def _rate(name: str, digits: int = 0) -> Cell:
    return lambda row: f"{row.rates[name]:,.{digits}f}" if name in row.rates else ""


def _mebibytes(value: int | None) -> str:
    return "" if value is None else f"{value / 2**20:,.1f}"


def _peak(phase: str, kind: str) -> Cell:
    return lambda row: _mebibytes(getattr(row.memory[phase], kind)) if phase in row.memory else ""


def _part(name: str) -> Cell:
    def cell(row: CandidateRow) -> str:
        value = getattr(row.breakdown, name) if row.breakdown else None
        return "" if value is None else f"{value / 2**20:,.3f}"

    return cell


def _largest_allocated(row: CandidateRow) -> str:
    phases = [row.memory[phase].allocated for phase in (FORWARD, BACKWARD, OPTIMISER) if phase in row.memory]
    return _mebibytes(max((peak for peak in phases if peak is not None), default=None))


def _on_device(phase: str) -> Cell:
    def cell(row: CandidateRow) -> str:
        found = row.memory.get(phase)
        if found is None or found.allocated is None:
            return ""
        return f"{_mebibytes(found.allocated)} / {_mebibytes(found.reserved)}"

    return cell


_TABLES: tuple[tuple[str, tuple[tuple[str, Cell], ...]], ...] = (
    (
        "Training step (ms: median, 5th-95th percentile; ratios: median, least-most of the rounds)",
        (
            ("step", _milliseconds(STEP)),
            ("5-95 %", lambda row: _range(row.timings.get(STEP))),
            (FORWARD, _milliseconds(FORWARD)),
            (BACKWARD, _milliseconds(BACKWARD)),
            (OPTIMISER, _milliseconds(OPTIMISER)),
            ("dequantising once", _milliseconds(DEQUANTISE)),
            (f"to {REFERENCE}", lambda row: _ratio(row.to_reference)),
            ("to floor", lambda row: _ratio(row.to_floor)),
            (f"cpu to {REFERENCE}", lambda row: _ratio(row.processor_to_reference)),
        ),
    ),
    (
        "Training, per second",
        (
            ("examples", _rate("step_examples_per_second", 1)),
            ("tokens", _rate("step_tokens_per_second")),
            ("frames", _rate("step_frames_per_second", 1)),
            ("TFLOP", _rate("step_tflops_per_second", 3)),
            ("inference TFLOP", _rate("inference_tflops_per_second", 3)),
            ("joules a step", lambda row: "" if row.joules is None else f"{row.joules:,.2f}"),
        ),
    ),
    (
        "Inference (ms per batch; adapter file in KiB)",
        (
            ("load", _milliseconds(LOAD)),
            ("system prompt", _milliseconds(SPECIALISE)),
            ("evaluation", _milliseconds(EVALUATION)),
            ("inference", _milliseconds(INFERENCE)),
            ("merged", _milliseconds(MERGED)),
            ("merging", _milliseconds(MERGE)),
            ("examples/s", _rate("evaluation_examples_per_second", 1)),
            ("frames/s", _rate("evaluation_frames_per_second", 1)),
            ("file", lambda row: f"{row.ledger.stored_bytes / 1024:,.1f}" if row.ledger else ""),
            ("reported", lambda row: f"{row.ledger.reported:,}" if row.ledger else ""),
        ),
    ),
    (
        "Generation (tokens/s)",
        (
            (PREFILL, _rate(f"{PREFILL}_tokens_per_second", 1)),
            (DECODE, _rate(f"{DECODE}_tokens_per_second", 1)),
            ("merged prefill", _rate(f"{PREFILL_MERGED}_tokens_per_second", 1)),
            ("merged decode", _rate(f"{DECODE_MERGED}_tokens_per_second", 1)),
        ),
    ),
    (
        "Memory (MiB: peaks, and the tensors of a training step)",
        (
            ("process", lambda row: _mebibytes(row.peak_process)),
            ("training", _peak(STEP, "process")),
            ("allocated", _largest_allocated),
            ("reserved", lambda row: _mebibytes(row.peak_device)),
            ("inference", _peak(INFERENCE, "process")),
            ("weights", _part("weights")),
            ("adapter", _part("adapter")),
            ("head", _part("head")),
            ("gradients", _part("gradients")),
            (OPTIMISER, _part("optimiser")),
            ("activations", _part("activations")),
        ),
    ),
    (
        "Memory of the accelerator by phase (MiB: peak allocated / reserved)",
        tuple(
            (phase, _on_device(phase))
            for phase in (LOAD, FORWARD, BACKWARD, OPTIMISER, SPECIALISE, EVALUATION, INFERENCE, DECODE, MERGE)
        ),
    ),
)
