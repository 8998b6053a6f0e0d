"""Tasks that a causal language model is tuned for: a prompt, and the response that it should give."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from parbench.bench.util.errors import UserError
from parbench.tasks.base import LANGUAGE_MODEL, Collate, Head, Modality, Task
from parbench.tasks.kinds.special_tokens import beginning, closed_ids, continuing_ids, open_ids, shortened

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor, Rows


class LanguageModelTask(Task):
    """Supervised fine-tuning on pairs of prompt and response; subclasses define what is scored, and how."""

    head: Head = LANGUAGE_MODEL
    modality = Modality.TEXT

    @abstractmethod
    def prompt(self, example: Mapping[str, Any]) -> str:
        """Return what the model is given."""

    @abstractmethod
    def response(self, example: Mapping[str, Any]) -> str:
        """Return what it should answer; a space between the two belongs to the response."""

    def with_system_prompt(self) -> Self:
        """Return a copy whose instruction is moved from the prompt into `system_prompt`.

        Raises:
            UserError: it has no system prompt.
        """
        raise UserError(
            f"the task {self.name} has no system prompt, which the method reads; use another task, such as commonsense"
        )

    def system_prompt(self, example: Mapping[str, Any]) -> str:
        """Return the instruction of an example; only for tasks from `with_system_prompt`."""
        raise TypeError(f"{self.name} has no separate system prompt; see with_system_prompt")

    @property
    def loss_on(self) -> Literal["response", "all"]:
        """The tokens that the loss counts: the response's, or the prompt's as well."""
        return "response"

    def prepare(self, dataset: Dataset, processor: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return ``input_ids`` and ``labels`` of prompt, response and end of text, and the ids of the ``prompt`` alone.

        What is longer than ``max_length`` loses the beginning of its prompt, but for the special tokens that begin each
        text, so that there is a response to learn. The ``prompt`` that texts are generated from is shortened by its
        own length only: it must not reveal how long the answer is.

        Raises:
            UserError: the tokenizer has no end of text (that of an encoder, for example).
        """
        from datasets import Dataset

        if processor.eos_token_id is None:
            raise UserError(
                f"the task {self.name} needs a causal language model, and the tokenizer of this base model has no end "
                "of text, which every response ends with; give another base model"
            )

        rows = [self._encoded(example, processor, max_length) for example in dataset]
        return Dataset.from_dict({name: [row[name] for row in rows] for name in ("input_ids", "labels", "prompt")})

    def collate(self, processor: PreTrainedTokenizerBase) -> Collate:
        """Return padding on the right, to the longest of the batch."""
        pad = int(processor.pad_token_id)

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            import torch

            from parbench.tasks.inference import IGNORED

            longest = max(len(row["input_ids"]) for row in rows)

            def padded(name: str, value: int) -> torch.Tensor:
                return torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])

            ids = padded("input_ids", pad)
            lengths = torch.tensor([len(row["input_ids"]) for row in rows])
            mask = (torch.arange(longest) < lengths[:, None]).long()
            return {"input_ids": ids, "attention_mask": mask, "labels": padded("labels", IGNORED)}

        return collate

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy of each labelled token given those before it, averaged over the batch's tokens."""
        return next_token_loss(logits, labels, label_smoothing)

    def prompt_ids(self, example: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the whole prompt as tokens, with the beginning of text that the tokenizer gives it.

        An empty prompt without one is an end of text: something must stand before the response.
        """
        return open_ids(tokenizer(self.prompt(example))["input_ids"], tokenizer) or [int(tokenizer.eos_token_id)]

    def _encoded(
        self, example: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> dict[str, list[int]]:
        """Return a prepared row, and as ``kept`` the prompt's ids that are left in its ``input_ids``."""
        from parbench.tasks.inference import IGNORED

        prompt = self.prompt_ids(example, tokenizer)
        response = closed_ids(continuing_ids(self.response(example), tokenizer), tokenizer)
        # At least one token stands before the response, which nothing would predict otherwise.
        response = response[: max(1, max_length - max(1, beginning(prompt, tokenizer)))]
        kept = shortened(prompt, max(0, max_length - len(response)), tokenizer)
        # Nothing predicts the first token of all.
        asked = [IGNORED, *kept[1:]] if self.loss_on == "all" and kept else [IGNORED] * len(kept)
        asked_of = shortened(prompt, max_length, tokenizer)
        return {"input_ids": kept + response, "labels": asked + response, "prompt": asked_of, "kept": kept}


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the mean cross-entropy of the labelled tokens given those before them.

    Args:
        logits: (batch, tokens, vocabulary).
        labels: (batch, tokens), not shifted; `parbench.tasks.inference.IGNORED` where a token does not count.
        label_smoothing: share of the target that is spread evenly over the vocabulary.
    """
    from torch.nn import functional

    from parbench.tasks.inference import IGNORED, at_least_float32

    return functional.cross_entropy(
        at_least_float32(logits[:, :-1]).flatten(0, 1),
        labels[:, 1:].flatten(),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
    )


@dataclass(frozen=True)
class LogLikelihood:
    """Scores a language model by the likelihood of the responses, which is cheap: no text is generated.

    The score is the mean natural log-likelihood of a response's token, which is the training loss without its sign.
    """

    primary: str = "log_likelihood"

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return ``example``, ``subset``, and of each response its ``log_likelihood_sum`` and ``tokens``."""
        import pandas as pd

        found = predictor.log_likelihoods(inputs)
        return pd.DataFrame(
            {
                "example": examples["example"][:],
                "subset": examples["subset"][:],
                "log_likelihood_sum": found[:, 0],
                "tokens": found[:, 1].astype("int64"),
            }
        )

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return ``log_likelihood``, per token."""
        total = predictions["log_likelihood_sum"].to_numpy(dtype="float64").sum()
        return {self.primary: float(total / predictions["tokens"].sum())}
