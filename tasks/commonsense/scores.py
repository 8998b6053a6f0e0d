"""Scores of commonsense questions: by lm-eval's likelihoods of the choices, or by the generated answer.

Each function takes or returns one row per example; the scores depend on these rows only.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.tasks.commonsense.questions import CommonsenseSet
from parbench.tasks.llm_adapters import InstructionOptions, generated
from parbench.tasks.lm_eval_bridge import Documents, evaluated

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows


def asked_of(sets: Mapping[str, CommonsenseSet], examples: Dataset) -> dict[str, Documents]:
    """Return the documents of each set, in the order of ``examples``, for lm-eval.

    Raises:
        UserError: LLM-Adapters' form of a set does not hold all that lm-eval shows.
    """
    found: dict[str, Documents] = {}
    for subset, rows in _by_subset(examples).items():
        chosen = examples.select(rows)
        texts = chosen["document"][:]
        shots = [json.loads(several) for several in chosen["shots"][:]]
        if not all(texts) or not all(shot for several in shots for shot in several):
            part = sets[subset]
            raise UserError(
                f"lm-eval shows the passages of {subset}, which LLM-Adapters' files do not hold; put rows with "
                f'{part.columns.described} into "{part.data[0].folder}" as validation (and as train, for '
                "few-shot examples and for train_text=lm_eval), or use protocol=generate"
            )
        documents = [json.loads(text) for text in texts]
        given = [[json.loads(shot) for shot in several] for several in shots]
        found[subset] = Documents(sets[subset].benchmark, documents, given if any(given) else ())
    return found


def by_likelihood(predictor: Predictor, sets: Mapping[str, CommonsenseSet], examples: Dataset) -> pd.DataFrame:
    """Return lm-eval's results: the most likely choice, ``accuracy`` (its acc) and ``acc_norm``.

    ``acc_norm``, of likelihoods divided by the choices' lengths, is present where lm-eval has it for the set.
    """
    import numpy as np
    import pandas as pd

    answers = evaluated(predictor, asked_of(sets, examples))
    rows: list[dict[str, Any]] = [{} for _ in range(len(examples))]
    labels = examples["label"][:]
    for subset, places in _by_subset(examples).items():
        for place, answer in zip(places, answers[subset], strict=True):
            rows[place] = {
                "label": labels[place],
                "prediction": int(np.argmax(answer.log_likelihoods)),
                "accuracy": answer.metrics["acc"],
                "acc_norm": answer.metrics.get("acc_norm"),
                "log_likelihoods": list(answer.log_likelihoods),
            }
    return _named(examples, pd.DataFrame(rows))


def by_generation(
    predictor: Predictor,
    sets: Mapping[str, CommonsenseSet],
    examples: Dataset,
    inputs: Rows,
    options: InstructionOptions,
) -> pd.DataFrame:
    """Return the first answer that each generated text names: ``answer``, and the text.

    ``prediction`` is the answer's number, and -1 where the text names none, which counts as wrong, as in LLM-Adapters.
    """
    import pandas as pd

    rows = []
    texts = generated(predictor, inputs, options)
    for text, subset, label in zip(texts, examples["subset"][:], examples["label"][:], strict=True):
        wording = sets[subset].wording
        answer = wording.answered(text)
        prediction = wording.known.index(answer) if answer else -1
        rows.append(
            {
                "label": label,
                "prediction": prediction,
                "accuracy": float(prediction == label),
                "answer": answer,
                "text": text,
            }
        )
    return _named(examples, pd.DataFrame(rows))


def scores(predictions: pd.DataFrame, unseen: Sequence[str] = ()) -> dict[str, float]:
    """Return ``accuracy`` and, where every set has it, ``acc_norm``: the means over the sets; and those of each set.

    Over several sets there is ``harmonic_mean`` as well, of their accuracies. Where some sets are ``unseen`` by the
    training, there are ``seen_mean`` and ``unseen_mean``, the means over either kind.
    """
    accuracies = _means(predictions, "accuracy")
    found = _over_sets("accuracy", accuracies, len(accuracies))
    if len(accuracies) > 1:
        found["harmonic_mean"] = harmonic_mean(list(accuracies.values()))
    if unseen:
        kinds = {True: "unseen_mean", False: "seen_mean"}
        for kind, metric in kinds.items():
            if values := [value for subset, value in accuracies.items() if (subset in unseen) is kind]:
                found[metric] = statistics.fmean(values)
    if "acc_norm" in predictions:
        found |= _over_sets("acc_norm", _means(predictions.dropna(subset=["acc_norm"]), "acc_norm"), len(accuracies))
    return found


def harmonic_mean(values: Sequence[float]) -> float:
    """Return the harmonic mean, the HAR of LoRA-Gen's tables; 0 if any value is."""
    return float(statistics.harmonic_mean(values))


def _means(predictions: pd.DataFrame, column: str) -> dict[str, float]:
    return {str(subset): float(rows[column].mean()) for subset, rows in predictions.groupby("subset")}


def _over_sets(metric: str, values: Mapping[str, float], sets: int) -> dict[str, float]:
    mean = {metric: statistics.fmean(values.values())} if values and len(values) == sets else {}
    return {**mean, **({f"{metric}_{subset}": value for subset, value in values.items()} if sets > 1 else {})}


def _by_subset(examples: Dataset) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, subset in enumerate(examples["subset"][:]):
        found.setdefault(subset, []).append(row)
    return found


def _named(examples: Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    rows.insert(0, "example", examples["example"][:])
    rows.insert(1, "subset", examples["subset"][:])
    return rows
