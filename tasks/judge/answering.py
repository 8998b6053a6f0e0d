"""Generates a model's answers to multi-turn questions, as ``fastchat.llm_judge.gen_model_answer`` does.

FastChat samples the answers to most categories. Here each question and turn has its own random seed, the same for all
models: an answer depends on the model alone and not on the rest of the batch, and models are compared on equal draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessor

from parbench.tasks.judge.conversation import Prompt
from parbench.tasks.judge.questions import Question
from parbench.tasks.kinds.special_tokens import shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor

# Builds the prompt from the turns so far and the answers to all of them but the last.
Conversation = Callable[[Sequence[str], Sequence[str]], Prompt]

# transformers' default for sampling, which FastChat does not override.
TOP_K = 50


@dataclass(frozen=True)
class Answers:
    """The answers of a model.

    Attributes:
        texts: by question id, one text per turn.
        cramped: number of answers whose maximum length was reduced to fit the model's context.
    """

    texts: Mapping[int, tuple[str, ...]]
    cramped: int


class RowSampling(LogitsProcessor):
    """Turns greedy search into sampling with a separate generator per row, by the Gumbel-max trick.

    Args:
        temperatures: one per row; 0 keeps a row greedy.
        seeds: one per row. The noise is drawn on the CPU, so that it is the same on every device.
        top_k: number of most likely tokens to sample from.
    """

    def __init__(self, temperatures: Sequence[float], seeds: Sequence[int], top_k: int = TOP_K) -> None:
        self._temperatures = tuple(temperatures)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._top_k = top_k

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (rows, vocabulary) whose argmax is the sampled token.

        Args:
            input_ids: prompt and generated text, of shape (rows, tokens).
            scores: of the next token, of shape (rows, vocabulary).
        """
        drawn = scores.to(torch.float32, copy=True)
        for row, (temperature, generator) in enumerate(zip(self._temperatures, self._generators, strict=True)):
            if temperature > 0:
                values, tokens = drawn[row].topk(min(self._top_k, drawn.shape[1]))
                # Minus the logarithm of an exponential variable has a Gumbel distribution.
                noise = torch.empty(drawn.shape[1]).exponential_(generator=generator).to(scores.device)
                row_scores = torch.full_like(drawn[row], -torch.inf)
                row_scores[tokens] = values / temperature - noise[tokens].log()
                drawn[row] = row_scores
        return drawn


def answer(
    predictor: Predictor, questions: Sequence[Question], conversation: Conversation, max_new_tokens: int
) -> Answers:
    """Return a model's answers; each turn sees the model's own answers to those before it.

    An answer has at most ``max_new_tokens`` tokens, or fewer if the model's context has less room, but always room for
    one. A conversation longer than the context is truncated at its beginning.
    """
    texts: dict[int, tuple[str, ...]] = {question.question_id: () for question in questions}
    cramped = 0
    for turn in range(max((len(question.turns) for question in questions), default=0)):
        asked = [
            _Asked.of(question, texts[question.question_id], conversation, predictor.processor, max_new_tokens)
            for question in questions
            if turn < len(question.turns)
        ]
        cramped += sum(one.limit < max_new_tokens for one in asked)
        for batch in _batches(asked, max_new_tokens, predictor.batch_size):
            for one, text in zip(batch, _written(predictor, batch), strict=True):
                texts[one.question.question_id] += (text,)
    return Answers(texts, cramped)


@dataclass(frozen=True)
class _Asked:
    """The next turn of a question.

    Attributes:
        question: the question.
        turn: index of the turn, from 0.
        prompt: the conversation so far.
        ids: its tokens.
        limit: maximum number of tokens of the answer.
    """

    question: Question
    turn: int
    prompt: Prompt
    ids: list[int]
    limit: int

    @classmethod
    def of(
        cls,
        question: Question,
        answers: Sequence[str],
        conversation: Conversation,
        tokenizer: PreTrainedTokenizerBase,
        max_new_tokens: int,
    ) -> _Asked:
        prompt = conversation(question.turns[: len(answers) + 1], answers)
        # A decoded answer may have more tokens than were generated, so the conversation may have to be truncated.
        ids = shortened(prompt.open_ids(tokenizer), tokenizer.model_max_length - 1, tokenizer)
        return cls(question, len(answers), prompt, ids, min(max_new_tokens, tokenizer.model_max_length - len(ids)))

    @property
    def seed(self) -> int:
        name = f"{self.question.question_id}:{self.turn}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])


def _batches(asked: Iterable[_Asked], limit: int, size: int) -> Iterator[list[_Asked]]:
    """Yield batches, longest prompts first; an answer with a reduced limit is a batch by itself."""
    batch: list[_Asked] = []
    for one in sorted(asked, key=lambda one: -len(one.ids)):
        if one.limit < limit:
            yield [one]
            continue
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _written(predictor: Predictor, batch: Sequence[_Asked]) -> list[str]:
    """Return the answers to a batch whose prompts are sorted as the predictor does it, longest first."""
    tokenizer: PreTrainedTokenizerBase = predictor.processor
    ends = {tokenizer.eos_token_id, *(token for one in batch for token in one.prompt.stop_token_ids)}
    sampling = RowSampling([one.question.temperature for one in batch], [one.seed for one in batch])
    tokens = predictor.generate(
        [one.ids for one in batch],
        logits_processor=[sampling],
        max_new_tokens=batch[0].limit,
        eos_token_id=sorted(ends),
        num_beams=1,
        do_sample=False,
    )
    texts = [str(tokenizer.decode(written, skip_special_tokens=True)) for written in tokens]
    return [one.prompt.finish(text) for one, text in zip(batch, texts, strict=True)]
