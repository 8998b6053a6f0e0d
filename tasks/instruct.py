"""Instruction tuning: the 52,002 pairs of Stanford Alpaca, and pairs made of rows that a package carries.

Data, prompt and loss are those of Stanford's ``train.py`` (tatsu-lab/stanford_alpaca): the prompt with or without an
input, the response right behind it, and the loss on the response. There is no official split to report on. Here some
pairs are held back, always the same ones, and the score is the likelihood of their responses: nothing is generated, so
that it says how well a method learns the data, and nothing about how good its answers are. That is for
`parbench.tasks.mt_bench`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Splits, load_checked
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.pairs import COLUMNS, PackagedPairs
from parbench.tasks.data.source import DataRef, DataSource, HubDataset, Reads
from parbench.tasks.data.split import CUT_SEED, SELECTION_MOST, SELECTION_SHARE, CutSplits, capped
from parbench.tasks.data.values import check_columns, texts_of
from parbench.tasks.judge.conversation import TOKENIZER, Prompt, conversation_prompt, template_names
from parbench.tasks.kinds.language_model import LanguageModelTask, LogLikelihood
from parbench.tasks.options import TaskOptions

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor, Rows

ALPACA = "alpaca"
# Of all pairs, to report on.
REPORTED_SHARE, REPORTED_MOST = 0.1, 2000

_REQUEST = "Write a response that appropriately completes the request.\n\n"


class InstructOptions(TaskOptions):
    """Options of a task that is tuned on instructions.

    Attributes:
        loss_on: the tokens that training counts; Alpaca counts the response's.
        template: how an instruction is put to the model: ``alpaca``, ``tokenizer`` for the tokenizer's chat template,
            or the name of one of FastChat's templates. Of the name ``alpaca`` FastChat has one too, with a blank where
            the text that Alpaca is trained on has a line break; it cannot be named here.
    """

    loss_on: Literal["response", "all"] = "response"
    template: str = ALPACA


@dataclass(frozen=True, kw_only=True)
class Instruct(LanguageModelTask):
    """Pairs of instruction and response, of which some are held back to be scored by their likelihood.

    Attributes:
        files: names that the file of local data may have.
    """

    name: str
    data: DataRef
    files: tuple[str, ...]
    reference: Reference
    own_source: DataSource | None = None
    options: InstructOptions = field(default_factory=InstructOptions)
    primary: str = "log_likelihood"

    def missing(self, source: DataSource) -> str | None:
        """Return why it cannot run with the data of ``source`` and its options, or ``None`` if it can."""
        template = self.options.template
        if template not in (ALPACA, TOKENIZER) and template not in (known := template_names()):
            return f'there is no template "{template}"{did_you_mean(template, [TOKENIZER, *known])}'
        files, data = self._found(source)
        return files.missing(data)

    def describe(self, source: DataSource) -> str:
        """Return where the data comes from, for a table."""
        files, data = self._found(source)
        return f"{files.describe(data)} (re-split)"

    def revision(self, source: DataSource) -> str:
        """Return the commit or content hash that fixes the data."""
        files, data = self._found(source)
        return files.revision(data)

    def splits(self, source: DataSource, limit: int | None = None) -> Splits:
        """Load the pairs and hold some back; with ``limit``, at most so many of each split, always the same ones."""
        cut = self.cut(source)
        return Splits(*(capped(rows, limit) for rows in cut))

    def cut(self, source: DataSource) -> CutSplits:
        """Return all pairs, cut in three; none is trained or selected on whose prompt is in the reported ones."""
        import numpy as np

        files, data = self._found(source)
        rows = load_checked(files, data, self.check)[data.train]
        rows = rows.add_column("example", [f"train:{row}" for row in range(len(rows))])
        rows = rows.add_column("subset", [""] * len(rows))
        reported = min(REPORTED_MOST, round(REPORTED_SHARE * len(rows)))
        selection = min(SELECTION_MOST, round(SELECTION_SHARE * len(rows)))
        if not reported or not selection:
            raise UserError(f"{self.name} has {len(rows)} pairs, too few to hold some back; give at least 10")
        drawn = np.random.default_rng(CUT_SEED).permutation(len(rows)).tolist()
        prompts = list(zip(rows["instruction"][:], rows["input"][:], strict=True))
        known = {prompts[row] for row in drawn[:reported]}
        fresh = [row for row in drawn[reported:] if prompts[row] not in known]
        return CutSplits(
            train=rows.select(sorted(fresh[selection:])),
            selection=rows.select(sorted(fresh[:selection])),
            reported=rows.select(sorted(drawn[:reported])),
        )

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return ``instruction``, ``input`` (empty where there is none) and ``output``."""
        where = f"the {split} split of {self.name}"
        check_columns(dataset, ("instruction", "output"), where)
        kept = {name: texts_of(dataset, name, where) for name in ("instruction", "output")}
        has_input = "input" in dataset.column_names
        kept["input"] = texts_of(dataset, "input", where, missing="") if has_input else [""] * len(dataset)
        return type(dataset).from_dict({name: kept[name] for name in COLUMNS})

    def prompt(self, example: Mapping[str, Any]) -> str:
        """Return the instruction in Alpaca's frame; under another template, which needs a tokenizer, its bare words."""
        if self.options.template == ALPACA:
            return alpaca_prompt(example["instruction"], example["input"])
        return "\n\n".join(text for text in (example["instruction"], example["input"]) if text)

    def response(self, example: Mapping[str, Any]) -> str:
        """Return the response, which in Alpaca's frame follows without a blank."""
        return str(example["output"])

    @property
    def loss_on(self) -> Literal["response", "all"]:
        """The tokens that the loss counts."""
        return self.options.loss_on

    def conversation(self, turns: Sequence[str], answers: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Prompt:
        """Return the prompt for the next answer of a conversation, in the form that is trained on.

        Raises:
            UserError: the template cannot express it.
        """
        if self.options.template == ALPACA:
            return alpaca_conversation(turns, answers, tokenizer)
        return conversation_prompt(turns, answers, tokenizer, self.options.template)

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return ``example``, ``subset``, and of each response its ``log_likelihood_sum`` and ``tokens``."""
        return LogLikelihood().predict(predictor, examples, inputs)

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return ``log_likelihood``: the mean natural log-likelihood of a response's token."""
        return LogLikelihood().score(predictions)

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return the likelihood per token without each of the examples in turn, of shape (examples,)."""
        if metric != self.primary:
            return None
        sums = predictions["log_likelihood_sum"].to_numpy(dtype="float64")
        tokens = predictions["tokens"].to_numpy(dtype="float64")
        return (sums.sum() - sums) / (tokens.sum() - tokens)

    def prompt_ids(self, example: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the whole prompt as tokens; a chat template may have written the special tokens already."""
        if self.options.template == ALPACA:
            return super().prompt_ids(example, tokenizer)
        return self.conversation([self.prompt(example)], (), tokenizer).open_ids(tokenizer)

    def _found(self, source: DataSource) -> tuple[DataSource, DataRef]:
        """Return what reads the data from ``source``, and by which name of its file; a folder may have any of them."""
        if not isinstance(source, FolderSource):
            return source, self.data
        named = [replace(self.data, train=name) for name in self.files]
        return source, next((data for data in named if source.missing(data) is None), named[0])


def alpaca_prompt(instruction: str, given: str = "") -> str:
    """Return what Alpaca is trained to continue, ``given`` being the input (``PROMPT_DICT`` of its ``train.py``)."""
    if not given:
        return f"Below is an instruction that describes a task. {_REQUEST}{_asked(instruction)}"
    return (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        f"{_REQUEST}### Instruction:\n{instruction}\n\n### Input:\n{given}\n\n### Response:"
    )


def alpaca_conversation(turns: Sequence[str], answers: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """Return Alpaca's prompt for a turn after others.

    Alpaca itself has one turn. As FastChat continues it, an answer ends with the end of text, as it does in training,
    and the next instruction stands right behind it.
    """
    end = str(tokenizer.eos_token)
    later = (f"{answer}{end}{_asked(turn)}" for answer, turn in zip(answers, turns[1:], strict=True))
    return Prompt(alpaca_prompt(turns[0]) + "".join(later), ALPACA)


def _asked(instruction: str) -> str:
    return f"### Instruction:\n{instruction}\n\n### Response:"


INSTRUCT = Instruct(
    name="instruct",
    data=DataRef(
        "alpaca",
        train="train",
        reported={},
        reads=Reads(COLUMNS),
        # The commit that many public projects pin.
        hub=HubDataset("tatsu-lab/alpaca", revision="dce01c9b08f87459cf36a430d809084718273017"),
    ),
    # As the hub's split is called, as the official file is, and as a copy may be.
    files=("alpaca_data", "train", "alpaca_52k"),
    reference=Reference("Stanford Alpaca: An Instruction-following LLaMA model", 2023, "GitHub"),
)

# By a name of its own, so that no score on other pairs is ever taken for one on Alpaca.
INSTRUCT_MINI = Instruct(
    name="instruct_mini",
    data=DataRef("instruct-mini", train="train", reported={}, reads=Reads(COLUMNS)),
    files=("train",),
    reference=Reference("Instructions made by this project of rows of other data sets", 2026, "not published"),
    own_source=PackagedPairs(),
)
