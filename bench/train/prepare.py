"""The data of a run as model inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from datasets import Dataset

from parbench.bench.record.run_spec import RunSpec
from parbench.bench.train.input_checks import check_length, cut_answers, cut_prompts, cut_texts, unknown_tokens
from parbench.bench.train.protocol import Protocol, Purpose, ReportedSplit, SplitData
from parbench.bench.train.resolved_run import ResolvedRun
from parbench.tasks.base import Task
from parbench.tasks.data.split import nested_share
from parbench.tasks.inference import Rows
from parbench.tasks.kinds.image_text_rows import ImageTextRows
from parbench.tasks.kinds.language_model import LanguageModelTask
from parbench.tasks.kinds.system_prompt import SystemPrompts, split_system_prompt
from parbench.tasks.leaks import leak_findings

# Rows with images or videos that are read to see whether their answers fit: a second's work.
_DECODED = 32


@dataclass(frozen=True)
class PreparedData:
    """The model inputs of a task, identical for every method and seed.

    Attributes:
        train: the training split.
        selection: the selection split.
        sizes: number of examples by split.
        processor: the base model's tokenizer or image processor, or the processor that has both.
        findings: what is suspicious about the data, in words; see `parbench.tasks.base.Task.findings`.
    """

    train: SplitData
    selection: SplitData
    sizes: dict[str, int]
    processor: Any
    findings: tuple[str, ...]
    _load_reported: Callable[[], SplitData]

    def reported(self, spec: RunSpec) -> ReportedSplit:
        """Return the reported split, locked by the protocol and the purpose of a run."""
        return ReportedSplit(self._load_reported, Protocol(spec.protocol), Purpose(spec.purpose))


def task_for_method(run: ResolvedRun) -> Task:
    """Return the task of a run; for a method that reads system prompts, with the instruction in ``system_prompt``."""
    return split_system_prompt(run.task) if run.method.reads_system_prompt else run.task


def prepare(run: ResolvedRun) -> PreparedData:
    """Load, cut and tokenise the data of a run; the reported split only when it is asked for.

    Warns where the tokenizer does not know the words of the training texts, and where many of them, or some of the
    answers, are cut.

    Raises:
        UserError: data, base model or tokenizer are not available, or do not fit the task.
    """
    task = task_for_method(run)
    run.base_model.check(run.spec.model_revision, task.head)
    processor = run.base_model.processor(task.modality, run.spec.model_revision)
    max_length = run.training.max_length
    tokenizer = getattr(processor, "tokenizer", processor)
    if task.modality.has_text:
        prompt = run.method.virtual_tokens(run.setting)
        check_length(max_length, tokenizer.model_max_length, prompt, run.base_model.name)
        tokenizer.model_max_length -= prompt
    splits = task.splits(run.source, run.spec.limit).capped(run.spec.evaluation_limit)
    task.check_metrics(splits.reported)

    def prepared(rows: Dataset) -> SplitData:
        return SplitData(rows, task.prepare(rows, processor, max_length))

    train = prepared(splits.train)
    if task.modality.has_text:
        for warning in _misfits(task, train, processor, max_length, run.base_model.name):
            warnings.warn(warning, stacklevel=2)
    return PreparedData(
        train=train,
        selection=prepared(splits.selection),
        sizes=splits.sizes,
        processor=processor,
        # By the whole prompt, also of a method that reads a part of it apart.
        findings=(*task.findings(splits), *leak_findings(run.task, splits)),
        _load_reported=cache(lambda: prepared(splits.reported)),
    )


def _misfits(task: Task, train: SplitData, processor: Any, max_length: int, model: str) -> Iterator[str]:
    """Yield in what the training texts do not fit the tokenizer or the length."""
    lengths: list[int] = []

    def counted() -> Iterator[Sequence[int]]:
        for ids in _token_ids(train.inputs):
            lengths.append(len(ids))
            yield ids

    def whole(places: Sequence[int]) -> Iterator[int]:
        rows = task.prepare(train.rows.select(places), processor, max_length + 1)
        return (len(rows[row]["input_ids"]) for row in range(len(rows)))

    if unknown := unknown_tokens(counted(), getattr(processor, "tokenizer", processor), model):
        yield unknown
    if isinstance(train.inputs, ImageTextRows):
        cut = cut_prompts(list(train.inputs.encoder_lengths()), max_length)
    else:
        cut = cut_texts(lengths, whole, max_length)
    if cut:
        yield cut
    if isinstance(task, LanguageModelTask):
        end = int(getattr(processor, "tokenizer", processor).eos_token_id)
        if cut := cut_answers(_labels(train.inputs), end, max_length):
            yield cut


def _token_ids(inputs: Rows) -> Iterator[Sequence[int]]:
    """Yield the tokens of each row's text; of one with images without decoding them."""
    if isinstance(inputs, ImageTextRows):
        return inputs.text_ids()
    return (inputs[row]["input_ids"] for row in range(len(inputs)))


def _labels(inputs: Rows) -> Iterator[Sequence[int]]:
    """Yield the labels of each row; of rows with images or features some, since each is decoded for them."""
    if isinstance(inputs, ImageTextRows):
        return (inputs[row]["labels"] for row in range(len(inputs))[:: max(1, len(inputs) // _DECODED)])
    column: Sequence[Sequence[int]] = cast(Dataset, inputs)["labels"][:]
    return iter(column)


def training_inputs(run: ResolvedRun, data: PreparedData, prompts: SystemPrompts | None) -> Rows:
    """Return the rows that a run trains on: the training split or a share of it, augmented where the task does so.

    Args:
        run: the run; its seed draws the share.
        data: the data of the run.
        prompts: the system prompts, added to each row if the method reads them.
    """
    spec, train = run.spec, data.train
    inputs = prompts.beside(train.inputs, train.rows) if prompts else train.inputs
    labels = train.rows["label"][:] if run.task.head.labels else None
    kept = nested_share(labels, len(train.rows), spec.train_fraction, spec.seed)
    share = inputs if len(kept) == len(train.rows) else inputs.select(kept)
    return run.task.augmented(share, spec.seed)
