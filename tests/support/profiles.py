"""Made-up profiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parbench.bench.profile.machine_load import MachineLoad
from parbench.bench.profile.measurement import STEP, Measurement, PhaseMemory
from parbench.bench.profile.result import Profile
from parbench.bench.profile.workload import FROZEN_FLOOR, Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import ParameterCounts, Status

MIB = 2**20
# What LoRA has in the planted records.
SIZE = 294_912


def candidate(method: str, setting: dict[str, Any] | None = None, name: str | None = None) -> Candidate:
    setting = {"rank": 8, "learning_rate": 0.5} if setting is None else setting
    return Candidate(name or method, name or method, setting, f"rank={setting['rank']}", method=method)


LORA = candidate("lora")


def profile_of(
    *candidates: Candidate,
    model: str = "roberta-base",
    batches: tuple[int, ...] = (32,),
    busy: float = 0.0,
    failed: tuple[str, ...] = (),
    sizes: dict[str, int] | None = None,
) -> Profile:
    """Return a profile of three rounds; the n-th candidate's step takes n times LoRA's, in the second round twice that.

    Its peak memory is n times 100 MiB, and 10 more with each round.
    """
    every = (FROZEN_FLOOR, LORA, *candidates)
    work = Workload(model, batches[0], 128, "cpu")
    measurements = []
    for batch in batches:
        for number in range(3):
            for place, one in enumerate(every):
                job = MeasurementJob(one, replace(work, batch_size=batch), Repetitions(), round=number)
                if one.name in failed:
                    measurements.append(Measurement(job, Status.OUT_OF_MEMORY, "it is too large"))
                    continue
                late = 2 if number == 1 and place > 1 else 1
                counted = ParameterCounts((sizes or {}).get(one.name, SIZE), 0, 0, 0, 0, 0, 0)
                measurements.append(
                    Measurement(
                        job,
                        seconds={STEP: [batch * 0.01 * max(place, 1) * late]},
                        memory={STEP: PhaseMemory((100 * max(place, 1) + 10 * number) * MIB)},
                        hardware={"cpu": "an abacus", "threads": "1"},
                        ledger=None if one is FROZEN_FLOOR else counted,
                    )
                )
    return Profile(
        base_model=model,
        workload=work,
        effort=Repetitions(),
        tokens=128,
        candidates=every,
        batches=batches,
        rounds=3,
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
        command="bench profile",
        versions={"torch": "2.6.0", "peft": "0.21.0"},
        git_commit=None,
        git_dirty=None,
        measurements=measurements,
        machine_load=[MachineLoad(busy, (busy, busy, busy))],
    )
