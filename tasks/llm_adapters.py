"""Common parts of LLM-Adapters' instruction tasks: prompt, decoding, and the mixing of several sets.

Hu et al., "LLM-Adapters: An Adapter Family for Parameter-Efficient Fine-Tuning of Large Language Models", EMNLP 2023;
code AGI-Edgerunners/LLM-Adapters, commit 8166572 (``finetune.py``, ``evaluate.py``, ``commonsense_evaluate.py``). Much
later work trains and reports with that code, so its texts are kept character by character.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Splits
from parbench.tasks.data.source import DataRef, DataSource
from parbench.tasks.data.split import CUT_SEED, SELECTION_MOST, CutSplits
from parbench.tasks.options import TaskOptions

if TYPE_CHECKING:
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows

REFERENCE = Reference(
    "LLM-Adapters: An Adapter Family for Parameter-Efficient Fine-Tuning of Large Language Models",
    2023,
    "EMNLP",
    "2304.01933",
)

_INDENT = " " * 16
_RESPONSE = "### Response:"


class InstructionOptions(TaskOptions):
    """Options of a task that answers instructions.

    Attributes:
        loss_on: the tokens in the training loss; LLM-Adapters counts ``all``.
        select_by: the criterion for settings and epochs: the likelihood of the right responses, or the accuracy.
        num_beams: of the beam search, without sampling. LLM-Adapters passes a temperature of 0.1 as well, which does
            nothing there, as nothing is sampled.
        max_new_tokens: limit of a generated text.
    """

    loss_on: Literal["response", "all"] = "response"
    select_by: Literal["log_likelihood", "accuracy"] = "log_likelihood"
    num_beams: int = Field(default=4, ge=1)
    max_new_tokens: int = Field(default=32, ge=1)


def instruction_prompt(instruction: str) -> str:
    """Return the text before a response, up to the blank that begins it (see `instruction_response`).

    Prompt and response together are the text that LLM-Adapters trains on. Its evaluation omits three of the
    blanks, unlike its training; here the two prompts are the same.
    """
    return (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.  \n"
        f"\n{_INDENT}### Instruction:\n{_INDENT}{instruction}\n{_INDENT}\n{_INDENT}{_RESPONSE}\n{_INDENT[1:]}"
    )


def instruction_response(output: str) -> str:
    """Return a response with the last blank of the indentation before it, which tokenizers join to the first word."""
    return f" {output}"


def generated(predictor: Predictor, inputs: Rows, options: InstructionOptions) -> list[str]:
    """Return the generated text after each prompt, stripped.

    It ends where a model that does not stop begins a further response, behind which LLM-Adapters' evaluation does not
    look: it takes what is between the first two ``### Response:`` of prompt and text.
    """
    prompts = [inputs[row]["prompt"] for row in range(len(inputs))]
    tokens = predictor.generate(
        prompts,
        do_sample=False,
        num_beams=options.num_beams,
        max_new_tokens=options.max_new_tokens,
    )
    texts = [str(predictor.processor.decode(written, skip_special_tokens=True)) for written in tokens]
    return [text.partition(_RESPONSE)[0].strip() for text in texts]


class MixedSet(NamedTuple):
    """The splits of one set among those that are mixed.

    Attributes:
        subset: the set's name.
        cut: its splits, with a column ``instruction``.
    """

    subset: str
    cut: CutSplits


def available(refs: Sequence[DataRef], source: DataSource) -> DataRef | None:
    """Return the first of several forms of the same data that ``source`` has."""
    return next((ref for ref in refs if source.missing(ref) is None), None)


def three_ways(ref: DataRef, raw: Mapping[str, Dataset]) -> DataRef:
    """Return a reference for data of one split that `parbench.tasks.data.split.cut_splits` cuts in three.

    Args:
        ref: names no split of ``raw`` as the training split.
        raw: one split.
    """
    (split,) = raw
    return replace(ref, reported={"": split}, selection=None)


def mixed(parts: Sequence[MixedSet], limit: int | None, worded: Callable[[str, Dataset], Dataset]) -> Splits:
    """Return the sets as one task.

    Training and selection examples are those of all sets, as many of each as it has; with ``limit`` a fixed draw from
    them. The selection split is at most as large as that of one set. Of the reported examples ``limit``
    counts for each set. An instruction that is reported is left out of training and selection.

    Args:
        parts: the sets.
        limit: most examples of a split.
        worded: takes a set's name and rows, and returns rows of columns that are the same for all sets.

    Raises:
        UserError: nothing is left to train or select on.
    """
    from datasets import concatenate_datasets

    reported = {text.strip() for part in parts for text in part.cut.reported["instruction"][:]}

    def drawn(splits: Mapping[str, Dataset], most: float) -> Dataset:
        kept = {subset: without(rows, reported) for subset, rows in splits.items()}
        places = _draw([len(rows) for rows in kept.values()], most)
        if not any(places):
            raise UserError(
                "all examples to train or select on are among those that are reported as well; give a training file "
                "that does not hold the test questions"
            )
        return concatenate_datasets(
            [worded(subset, rows.select(at)) for (subset, rows), at in zip(kept.items(), places, strict=True) if at]
        )

    train = drawn({part.subset: part.cut.train for part in parts}, math.inf if limit is None else limit)
    most = SELECTION_MOST if limit is None else min(limit, SELECTION_MOST)
    selection = drawn({part.subset: part.cut.selection for part in parts}, most)
    return Splits(
        train,
        selection,
        concatenate_datasets([worded(part.subset, _limited(part.cut.reported, limit)) for part in parts]),
    )


def without(rows: Dataset, instructions: set[str]) -> Dataset:
    """Return the rows whose instruction is not among ``instructions``."""
    return rows.select([row for row, text in enumerate(rows["instruction"][:]) if text.strip() not in instructions])


def _limited(rows: Dataset, limit: int | None) -> Dataset:
    return rows if limit is None or limit >= len(rows) else rows.shuffle(seed=CUT_SEED).select(range(limit))


def _draw(sizes: Sequence[int], most: float) -> list[list[int]]:
    """Return which rows of each set make up a draw of at most ``most`` of all of them, ascending."""
    import numpy as np

    if most >= sum(sizes):
        return [list(range(size)) for size in sizes]
    chosen = np.sort(np.random.default_rng(CUT_SEED).permutation(sum(sizes))[: int(most)])
    starts = np.cumsum([0, *sizes])
    return [(chosen[(chosen >= start) & (chosen < end)] - start).tolist() for start, end in pairwise(starts)]
