"""lm-eval on documents in memory: its own prompts, likelihoods and metrics, on a model in memory.

The harness reads a task's data from the hub. Here each of its built-in multiple-choice tasks keeps its YAML file and
gets other documents, with the few-shot examples of each document.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from parbench.bench.util.errors import DivergedError

if TYPE_CHECKING:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import Task as HarnessTask
    from lm_eval.models.huggingface import HFLM
    from torch import nn

    from parbench.tasks.inference import Predictor

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """A built-in multiple-choice task of lm-eval.

    Attributes:
        task: its name there.
        folder: the folder of its YAML file, below ``lm_eval/tasks``.
    """

    task: str
    folder: str


@dataclass(frozen=True)
class Documents:
    """The documents of one benchmark.

    Attributes:
        benchmark: the source of prompts and metrics.
        documents: in the columns of the benchmark's data set on the hub.
        shots: the few-shot examples of each document, equally many; empty for none.
    """

    benchmark: Benchmark
    documents: Sequence[Document]
    shots: Sequence[Sequence[Document]] = ()

    @property
    def num_fewshot(self) -> int:
        """Examples before each question."""
        return len(self.shots[0]) if self.shots else 0


class Answer(NamedTuple):
    """lm-eval's result for one document.

    Attributes:
        log_likelihoods: of the choices.
        metrics: ``acc``, and ``acc_norm`` where the benchmark has it.
    """

    log_likelihoods: tuple[float, ...]
    metrics: dict[str, float]


def evaluated(predictor: Predictor, asked: Mapping[str, Documents]) -> dict[str, list[Answer]]:
    """Return the answers to each set of documents, in their order.

    Args:
        predictor: the model, its tokenizer, batch size and precision.
        asked: by any name of the set.

    Raises:
        DivergedError: a likelihood is not finite.
    """
    import lm_eval

    with _undisturbed():
        tasks = _tasks(asked)
        # Standard errors are computed by the reports.
        found = lm_eval.evaluate(
            _language_model(predictor),
            {"tasks": {task.config.task: task for task in tasks.values()}},
            bootstrap_iters=0,
        )
    answers = {name: _answers(found["samples"][asked[name].benchmark.task]) for name in asked}
    if not all(_finite(answer.log_likelihoods) for several in answers.values() for answer in several):
        raise DivergedError("the trained model's outputs are not finite")
    return answers


def right_answers(
    asked: Mapping[str, Documents], labels: Mapping[str, Sequence[int]]
) -> dict[str, list[tuple[str, str]]]:
    """Return each document as lm-eval words it: the prompt with few-shot examples, and the right continuation.

    Args:
        asked: by any name of the set.
        labels: index of the right choice, by the same names.
    """
    with _undisturbed():
        tasks = _tasks(asked)
        for task in tasks.values():
            task.build_all_requests(rank=0, world_size=1)
    return {
        name: [
            (str(context), str(continuation))
            for context, continuation in (
                request.arguments for request in _requests(task) if request.idx == labels[name][request.doc_id]
            )
        ]
        for name, task in tasks.items()
    }


def _requests(task: HarnessTask) -> list[Instance]:
    return sorted(task.instances, key=lambda request: (request.doc_id, request.idx))


def _answers(samples: Sequence[Mapping[str, Any]]) -> list[Answer]:
    return [
        Answer(
            tuple(float(likelihood) for likelihood, _ in sample["filtered_resps"]),
            {name: float(sample[name]) for name in sample["metrics"]},
        )
        for sample in sorted(samples, key=lambda sample: sample["doc_id"])
    ]


def _finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _tasks(asked: Mapping[str, Documents]) -> dict[str, HarnessTask]:
    """Return lm-eval's tasks over the documents. Only their own folders are indexed: all folders take ten seconds."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    root = Path(lm_eval.__file__).parent / "tasks"
    folders = dict.fromkeys(str(root / documents.benchmark.folder) for documents in asked.values())
    manager = TaskManager(include_path=list(folders), include_defaults=False)
    # Only in a group do the keys override the built-in YAML file's; alone they would define a task of their own.
    group = {"group": "asked", "task": [_overrides(documents) for documents in asked.values()]}
    loaded = manager.load([group])["tasks"]
    return {name: loaded[documents.benchmark.task] for name, documents in asked.items()}


def _overrides(asked: Documents) -> dict[str, Any]:
    from datasets import Dataset
    from lm_eval.api.samplers import ContextSampler

    class InOrder(ContextSampler):
        """Gives each document its own examples; the harness asks once per document, in their order."""

        given = 0

        def sample(self, n: int, *args: Any, **kwargs: Any) -> Sequence[dict[str, Any]]:
            start, self.given = self.given, self.given + n
            return [dict(self.df[row]) for row in range(start, self.given)]

    def documents(**kwargs: Any) -> dict[str, Dataset]:
        rows = Dataset.from_list([dict(document) for document in asked.documents])
        shots = [dict(shot) for several in asked.shots for shot in several]
        # The evaluated split differs between the benchmarks.
        return {"validation": rows, "test": rows, "train": Dataset.from_list(shots) if shots else rows}

    values: dict[str, Any] = {"task": asked.benchmark.task, "custom_dataset": documents}
    if asked.shots:
        values |= {"fewshot_split": "train", "fewshot_config": {"sampler": InOrder}}
    return {**values, "num_fewshot": asked.num_fewshot}


def _language_model(predictor: Predictor) -> HFLM:
    from lm_eval.models.huggingface import HFLM

    class Watched(HFLM):
        """Reports each batch to the predictor's callback, and draws no bar of its own."""

        def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
            logits = super()._model_call(inps, *args, **kwargs)
            predictor.on_batch(len(inps))
            return logits

        def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, **kwargs: Any) -> Any:
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, **kwargs)

    predictor.model.eval()
    return Watched(
        pretrained=_CallableModel(predictor.model, predictor.device),
        tokenizer=predictor.processor,
        batch_size=predictor.batch_size,
        # Choices that differ in their last token only take one pass.
        logits_cache=True,
        # It wraps the model in an autocast context of its own, which overrides an outer one.
        mixed_precision_dtype="bfloat16" if predictor.precision == "bfloat16" else None,
    )


class _CallableModel:
    """A model as a mere callable: the harness would tie the weights of a module again.

    That breaks an adapter on a head that shares its weight with the embedding.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model, self.device = model, device
        self.config = cast(Any, model).config

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._model(*args, **kwargs)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hide lm-eval's warnings, which are about how it is called, and its progress bars, which cannot be disabled.

    It also draws random letters for names, which must not change the random numbers of a training after it.
    """
    logger = logging.getLogger("lm_eval")
    before, drawn = logger.level, random.getstate()
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
        random.setstate(drawn)


def as_text(document: Document) -> str:
    """Return a document as one string, so that documents of different columns fit in one table."""
    return json.dumps(document, ensure_ascii=False)
