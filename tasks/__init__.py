"""The tasks: data, preprocessing, model head and metrics. ``group/name``; a group names all of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.code_version import source_hash
from bench.registry import Registry

if TYPE_CHECKING:
    from tasks.base import Task

TASKS: Registry[Task] = Registry("task", entry_point_group="parbench.tasks")
for _name, _attribute, _summary in (
    ("cola", "COLA", "linguistic acceptability"),
    ("sst2", "SST2", "sentiment of film reviews"),
    ("mrpc", "MRPC", "paraphrase"),
    ("stsb", "STSB", "semantic similarity, 0 to 5"),
    ("qqp", "QQP", "duplicate questions"),
    ("mnli", "MNLI", "inference, matched and mismatched genres"),
    ("qnli", "QNLI", "does the sentence answer the question"),
    ("rte", "RTE", "textual entailment"),
    ("wnli", "WNLI", "Winograd coreference as inference"),
):
    TASKS.register(f"glue/{_name}", f"tasks.glue:{_attribute}", f"GLUE: {_summary}")


def find_task(name: str, definition: Mapping[str, Any] | None = None) -> Task:
    """Return a task by its registered name, by the path of a YAML file, or by what such a file once contained.

    Raises:
        UserError: there is none, or the file defines none.
    """
    if definition is None and not is_task_file(name):
        return TASKS[name]
    from tasks.from_yaml import defined_task, read_definition

    return defined_task(read_definition(Path(name)) if definition is None else definition)


def is_task_file(name: str) -> bool:
    """Tell whether a task's name is the path of a YAML file."""
    return name.endswith((".yaml", ".yml"))


def task_code(task: Task) -> str:
    """Return the hash of the source that a task consists of."""
    if task.definition is not None:
        return source_hash("tasks.from_yaml")
    return source_hash(TASKS.entry(task.name).module)
