"""Keeps the measurements of an unfinished profile, so that the same command resumes after them."""

from __future__ import annotations

import dataclasses
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from parbench.bench.profile.measurement import Measurement
from parbench.bench.profile.workload import MeasurementJob
from parbench.bench.record.code_hashes import method_code
from parbench.bench.record.run_record import Status
from parbench.bench.util import environment
from parbench.bench.util.files import explained
from parbench.bench.util.source_hash import source_hash
from parbench.methods import find_method

FILE = "measurements.jsonl"


class KeptMeasurements:
    """A file of measurements, one JSON line each.

    A line is used only for the same job, measured with the same code and library versions. Incomplete lines and failed
    measurements are ignored, so that these are measured again.

    Args:
        folder: folder of the profile; ``None`` keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / FILE
        self._found = {} if self._file is None else dict(_read(self._file))

    def get(self, job: MeasurementJob) -> Measurement | None:
        """Return the measurement of a job, if it is kept."""
        return self._found.get(_key(job)) if self._found else None

    def add(self, measurement: Measurement) -> None:
        """Keep a measurement, unless it failed."""
        if self._file is None or measurement.status is not Status.OK:
            return
        content = {"key": _key(measurement.job), "measurement": dataclasses.asdict(measurement)}
        line = json.dumps(content, allow_nan=False) + "\n"
        with explained(self._file), self._file.open("ab+") as file:
            # A line that a killed process has begun would take this one with it.
            if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                file.write(b"\n")
            file.write(line.encode())

    def clear(self) -> None:
        """Remove the file: the profile is written."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def _read(file: Path) -> list[tuple[str, Measurement]]:
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
            found.append((content["key"], _adapter().validate_python(content["measurement"])))
        except (ValueError, KeyError, TypeError, ValidationError):
            continue  # incomplete, or from another version: measured again
    return found


def _key(job: MeasurementJob) -> str:
    asked = job.as_json()
    # By default a share of what is free at the moment: a measurement that fitted does not depend on it.
    del asked["limit_bytes"]
    method = job.candidate.method
    values: dict[str, Any] = {
        "job": asked,
        "versions": environment.versions(),
        "code": source_hash("parbench.bench.profile.measure"),
        "method_code": method_code(find_method(method)) if method else None,
    }
    return json.dumps(values, sort_keys=True)


@cache
def _adapter() -> TypeAdapter[Measurement]:
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(Measurement))
