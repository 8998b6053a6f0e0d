"""Records as JSON text, closed by a checksum."""

from __future__ import annotations

import dataclasses
import json
from functools import cache

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from parbench.bench.record.run_record import RunRecord
from parbench.bench.record.run_spec import digest

RECORD_FORMAT = 1


def to_json(record: RunRecord) -> str:
    """Return the record as JSON text, with the hash of its content as last field."""
    content = {"format": RECORD_FORMAT, "run_id": record.run_id, **dataclasses.asdict(record)}
    return json.dumps({**content, "sha256": digest(content)}, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> RunRecord:
    """Read a record.

    Raises:
        ValueError: the text is not a complete, unedited record of this format; the message names the defect.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not whole JSON ({error.msg} at line {error.lineno})") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply for a record") from error
    if not isinstance(content, dict) or "sha256" not in content:
        raise ValueError("is not a record")
    written = content.pop("sha256")
    if content.pop("format", None) != RECORD_FORMAT:
        raise ValueError(f"is not of record format {RECORD_FORMAT}")
    if written != digest({"format": RECORD_FORMAT, **content}):
        raise ValueError("was changed after it was written (its checksum does not match)")
    run_id = content.pop("run_id", None)
    try:
        record = _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"has a wrong field {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if run_id != record.run_id:
        raise ValueError(f"says it is run {run_id}, but its spec is that of run {record.run_id}")
    return record


@cache
def _adapter() -> TypeAdapter[RunRecord]:
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(RunRecord))
