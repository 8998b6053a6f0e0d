"""Runs the rounds of measurements, and searches the largest batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from parbench.bench.models.catalogue import find_model
from parbench.bench.models.kind import own_frames
from parbench.bench.profile import MOST_EXAMPLES
from parbench.bench.profile.kept import KeptMeasurements
from parbench.bench.profile.machine_load import MachineLoad, sample_machine_load
from parbench.bench.profile.measurement import Measurement
from parbench.bench.profile.process import measure_in_subprocess
from parbench.bench.profile.result import Largest, Profile
from parbench.bench.profile.workload import Candidate, MeasurementJob, Repetitions, Workload, configuration, kind_of
from parbench.bench.record.run_record import Status
from parbench.bench.util import environment
from parbench.bench.util.errors import UserError

Measure = Callable[[MeasurementJob], Measurement]
Say = Callable[[str], None]


@dataclass(frozen=True)
class ProfileRequest:
    """What to profile.

    Attributes:
        batches: examples per step; each batch size gets its own rounds.
        limit_bytes: memory that a measurement may use; ``None``: all memory of the device.
        traces: folder for a trace of each candidate.
        force: measure even if other processes use the device.
        kept: folder for finished measurements, after which the same command resumes.
    """

    candidates: tuple[Candidate, ...]
    workload: Workload
    effort: Repetitions
    batches: tuple[int, ...]
    rounds: int
    limit_bytes: int | None = None
    traces: Path | None = None
    force: bool = False
    kept: Path | None = None


def run_profile(
    request: ProfileRequest, say: Say, measure: Measure = measure_in_subprocess, find_largest: bool = False
) -> Profile:
    """Measure every candidate in every round.

    Args:
        say: receives progress messages.
        measure: carries out one job.
        find_largest: also search the largest batch of each candidate.

    Raises:
        UserError: other processes use the device, and ``force`` is not set.
    """
    started = environment.now()
    kept = KeptMeasurements(request.kept)

    def measure_once(job: MeasurementJob) -> Measurement:
        found = kept.get(job)
        if found is None:
            found = measure(job)
            kept.add(found)
        return found

    loads: list[MachineLoad] = []
    measurements = list(_rounds(request, say, measure_once, loads))
    largest = []
    if find_largest:
        for candidate in request.candidates:
            if any(_failed(measurement, candidate) for measurement in measurements):
                continue  # its row has the reason
            largest.append(largest_batch(request, candidate, measure_once))
            say(f"{candidate.name}: the largest batch is {largest[-1].batch}")
    git = environment.git_state()
    base_model = find_model(request.workload.base_model)
    return Profile(
        base_model=base_model.name,
        workload=replace(request.workload, batch_size=request.batches[0]),
        effort=request.effort,
        tokens=request.workload.length if kind_of(base_model).has_text else 1,
        candidates=request.candidates,
        batches=request.batches,
        rounds=request.rounds,
        started=started,
        finished=environment.now(),
        command=environment.command(),
        versions=environment.versions(),
        git_commit=git.commit,
        git_dirty=git.dirty,
        measurements=measurements,
        machine_load=loads,
        largest=largest,
        frames=own_frames(configuration(base_model)) or 0,
    )


def _rounds(request: ProfileRequest, say: Say, measure: Measure, loads: list[MachineLoad]) -> Iterator[Measurement]:
    seen: dict[int, str] = {}
    for batch in request.batches:
        failed: set[str] = set()
        for number in range(request.rounds):
            _sample(request, say, loads)
            for candidate in in_turn(request.candidates, number):
                if candidate.name in failed:
                    continue
                measurement = _measured(request, candidate, batch, number, measure)
                if measurement.batches and seen.setdefault(batch, measurement.batches) != measurement.batches:
                    raise RuntimeError(f"{candidate.name} got other batches than the candidates before it")
                if measurement.status is not Status.OK:
                    failed.add(candidate.name)
                say(_line(measurement, batch, number))
                yield measurement


def in_turn(candidates: Sequence[Candidate], number: int) -> list[Candidate]:
    """Return the candidates of a round, alternating forward and backward order, so that a steady drift cancels."""
    return list(candidates if number % 2 == 0 else reversed(candidates))


def _measured(request: ProfileRequest, candidate: Candidate, batch: int, number: int, measure: Measure) -> Measurement:
    trace = None
    if request.traces is not None and number == 0 and batch == request.batches[0]:
        trace = str(request.traces / f"{_file_name(candidate.name)}.json")
    job = MeasurementJob(
        candidate,
        replace(request.workload, batch_size=batch),
        request.effort,
        round=number,
        counts=number == 0,
        limit_bytes=request.limit_bytes,
        trace=trace,
    )
    if candidate.refusal:
        return Measurement(job, Status.SKIPPED, candidate.refusal)
    return measure(job)


def largest_batch(
    request: ProfileRequest, candidate: Candidate, measure: Measure = measure_in_subprocess, most: int = MOST_EXAMPLES
) -> Largest:
    """Find the largest batch whose training step fits, by doubling and bisection, each try in a fresh process.

    The result is within 1 % of the smallest batch that does not fit; memory is not reproducible beyond that.

    Raises:
        UserError: a try fails for another reason than memory.
    """
    effort = Repetitions(steps=1, warm_up=1, parts=("training",))
    tried: dict[int, Measurement] = {}

    def fits(batch: int) -> bool:
        workload = replace(request.workload, batch_size=batch)
        job = MeasurementJob(candidate, workload, effort, counts=False, limit_bytes=request.limit_bytes)
        tried[batch] = measure(job)
        if tried[batch].status not in (Status.OK, Status.OUT_OF_MEMORY):
            raise UserError(f"{candidate.name} cannot train on {batch} examples: {tried[batch].reason}")
        return tried[batch].status is Status.OK

    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    if high > most:
        return Largest(candidate, low, None, "", _tries(tried))
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return Largest(candidate, low, high, tried[high].reason or "", _tries(tried))


def _failed(measurement: Measurement, candidate: Candidate) -> bool:
    """Return whether a candidate cannot be measured at all, as opposed to being out of memory at some batch size."""
    return measurement.job.candidate == candidate and measurement.status not in (Status.OK, Status.OUT_OF_MEMORY)


def _tries(tried: dict[int, Measurement]) -> tuple[tuple[int, bool], ...]:
    return tuple((batch, measurement.status is Status.OK) for batch, measurement in tried.items())


def _sample(request: ProfileRequest, say: Say, loads: list[MachineLoad]) -> None:
    load = sample_machine_load(torch.device(request.workload.device))
    loads.append(load)
    if load.others and not request.force:
        raise UserError(f"{load.warning}; wait for them to end, choose another --device, or give --force")
    if load.warning and len([before for before in loads if before.warning]) == 1:
        say(f"WARNING: {load.warning}")


def _line(measurement: Measurement, batch: int, number: int) -> str:
    done = (
        "done" if measurement.status is Status.OK else f"{measurement.status.replace('_', ' ')}, {measurement.reason}"
    )
    return f"round {number + 1}, batch {batch}: {measurement.job.candidate.name}: {done} ({measurement.wall:.1f} s)"


def _file_name(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-_.+" else "_" for character in name)
