"""The tasks: data, preprocessing, model head and metrics. ``group/name``; a group names all of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
