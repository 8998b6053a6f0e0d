"""Printed numbers are kept as printed, and stand beside what was measured with every known difference."""

from __future__ import annotations

from typing import Any

import pytest

from parbench.bench.models import MODELS
from parbench.methods import METHODS, find_method
from parbench.methods.presets import presets_of
from parbench.reports.frame import read_frame
from parbench.reports.published import (
    PublishedNumber,
    Reproduced,
    published,
    reproduction,
    reproduction_table,
)
from parbench.reports.published.ledger import HEAD, PAPER_VALUE_UNAVAILABLE
from parbench.reports.tables import SMALL_LABEL
from tests.support.planter import rows_of

LORA_ON_COLA = {"r": 8, "alpha": 8.0, "learning_rate": 4e-4, "head_learning_rate": 4e-4}
VIDEOS = "the table of video action recognition"
TRAINING = {"batch_size": 32, "epochs": 80, "warmup_ratio": 0.06, "max_length": 512, "max_steps": None}


def printed(method: str, base_model: str, task: str, metric: str, paper: str) -> list[PublishedNumber]:
    wanted = (method, base_model, task, metric)
    return [
        number
        for number in published()
        if (number.method, number.base, number.task, number.metric) == wanted and paper in number.source.paper
    ]


def beside(planter: Any, **cells: Any) -> tuple[Reproduced, ...]:
    return reproduction(read_frame(planter.store).runs, **cells)


@pytest.mark.parametrize(
    ("method", "base_model", "task", "metric", "arxiv", "table", "values"),
    [
        # As the papers' tables print them.
        ("lora", "roberta-base", "glue/sst2", "accuracy", "2106.09685", "Table 2", [95.1]),
        ("lora", "roberta-base", "glue/cola", "matthews_correlation", "2106.09685", "Table 2", [63.4]),
        ("full", "roberta-base", "glue/mnli", "accuracy", "2106.09685", "Table 2", [87.6]),
        ("lora", "gpt2-medium", "e2e_nlg", "bleu", "2106.09685", "Table 3", [70.4]),
        ("lora", "gpt2-medium", "e2e_nlg", "nist", "2106.09685", "Table 3", [8.85]),
        ("vera", "roberta-base", "glue/sst2", "accuracy", "2310.11454", "Table 2", [94.6]),
        ("fourierft", "roberta-base", "glue/rte", "accuracy", "2405.03003", "Table 2", [79.1]),
        ("lora", "roberta-base", "glue/rte", "accuracy", "2405.03003", "Table 2", [78.4]),
        ("fourierft", "gpt2-medium", "e2e_nlg", "cider", "2405.03003", "Table 3", [2.51]),
        ("dora", "llama-7b", "commonsense", "accuracy", "2402.09353", "Table 1", [77.5, 78.4]),
        ("dora", "llama-7b", "commonsense", "accuracy_hellaswag", "2402.09353", "Table 1", [83.2, 87.2]),
        ("lora", "swin3d-b-22k", "video/ssv2", "accuracy", "V-PETL", VIDEOS, [38.34]),
        ("full", "swin3d-b-22k", "video/hmdb51", "accuracy", "V-PETL", VIDEOS, [68.07]),
        ("full", "videomae-base on kinetics-400", "video/ssv2", "accuracy", "V-PETL", VIDEOS, [53.97]),
        ("lora", "vl-bart-video", "vl/yc2c", "cider", "2112.06825", "the table of video-text tasks", [140.9]),
        ("dora", "vl-bart-video", "vl/how2qa", "accuracy", "2402.09353", "Table 3", [74.1]),
        ("full", "vl-bart-video", "vl/tvc", "cider", "2402.09353", "Table 3", [45.7]),
        ("lora+qv_ratio(8,strict)", "roberta-base", "glue/rte", "accuracy", "2410.02247", "Table 2", [76.13, 72.92]),
        ("dora+qv_ratio(2,strict)", "roberta-base", "glue/qnli", "accuracy", "2410.02247", "Table 2", [92.60, 92.70]),
        ("loca", "llama-3.1-8b in 4 bits", "commonsense", "accuracy_boolq", "2509.17428", "Table 11", [83.06]),
        ("lora", "llama-3.2-3b in 2 bits", "commonsense", "accuracy_piqa", "2509.17428", "Table 11", [70.35]),
        ("loca", "mistral-7b-v0.3 in 3 bits", "math", "accuracy_gsm8k", "2509.17428", "Table 3", [46.1]),
        ("lora", "llama-3.1-8b in 4 bits", "math", "accuracy_gsm8k", "2509.17428", "Table 3", [53.83]),
        (
            "loca",
            "llama-3.1-8b in 4 bits",
            "instruct",
            "train_hours",
            "2509.17428",
            "Table 5",
            [92.3, 53.4, 30.1, 16.5, 9.8],
        ),
        (
            "lora",
            "llama-3.1-8b in 4 bits",
            "instruct",
            "train_hours",
            "2509.17428",
            "Table 5",
            [12.5, 7.1, 5.0, 4.1, 3.6],
        ),
        (
            "loca",
            "llama-3.1-8b in 4 bits",
            "instruct",
            "peak_device_gb",
            "2509.17428",
            "Table 16",
            [23.3, 28.4, 34.4, 46.4, 70.6],
        ),
    ],
)
def test_values_are_those_printed(
    method: str, base_model: str, task: str, metric: str, arxiv: str, table: str, values: list[float]
) -> None:
    found = printed(method, base_model, task, metric, arxiv)
    assert [number.value for number in found] == values
    assert {number.source.table for number in found} == {table}


def test_the_head_of_the_rte_disagreement_is_reported() -> None:
    (hu,) = printed("lora", "roberta-base", "glue/rte", "accuracy", "2106.09685")
    assert (hu.value, hu.spread, hu.source.warm_start) == (86.6, 0.7, ("glue/mrpc", "glue/rte", "glue/stsb"))


def test_names_are_those_of_the_project() -> None:
    for number in published():
        choice = find_method(number.method)
        assert choice.method.name == number.method
        assert set(number.setting) <= set(choice.method.setting_type.model_fields)
    models = {number.base_model for number in published()}
    wanted = {"roberta-base", "roberta-large", "gpt2-medium", "gpt2-large", "vit-base", "vit-large"}
    assert wanted <= models & set(MODELS)
    known = {task for method in METHODS for preset in presets_of(method) for task in preset.tasks}
    without_preset = {"vision/food101", "vision/flowers102", "video/hmdb51", "video/ssv2", "math", "instruct"}
    assert {number.task for number in published()} - known <= without_preset


def test_no_number_is_printed_twice() -> None:
    keys = [
        (number.method, number.base, number.task, number.metric, str(number.source), str(number.setting), str(training))
        for number in published()
        for training in [number.training]
    ]
    assert len(keys) == len(set(keys))
    # CIDEr is at most ten, and papers on captions print a hundred times its value.
    assert all(0 < number.value < (1000 if number.metric == "cider" else 100) for number in published())


def test_measured_and_printed_stand_side_by_side(planter: Any) -> None:
    planter.seeds([0.60, 0.62, 0.64], setting=LORA_ON_COLA, training=TRAINING)
    (row,) = beside(planter)
    assert row.printed is not None
    assert (row.mean, row.sd, row.n, row.printed.value) == (pytest.approx(0.62), pytest.approx(0.02), 3, 63.4)
    assert row.difference == pytest.approx(-1.4)
    assert row.differences[:2] == (
        "the paper reports the best epoch of each run on the reported split; here the last, by protocol strict",
        "median of 5 seeds; here the mean of 3",
    )
    assert all(other.startswith("not stated in the paper: ") for other in row.differences[2:])
    table = reproduction_table([row])
    assert table.head == HEAD
    cells = dict(zip(table.head, table.rows[0], strict=True))
    assert (cells["measured ± sd"], cells["paper"], cells["difference"]) == ("62.0 ± 2.0 (n=3)", "63.4 ± 1.2", "-1.4")
    assert (cells["interval"], cells["parameters"], cells["paper's parameters"]) == ("—", "294,912", "0.3M")
    assert cells["source"] == "Hu et al., 2021 (arXiv 2106.09685), Table 2"


def test_other_settings_are_named(planter: Any) -> None:
    setting = {**LORA_ON_COLA, "learning_rate": 0.01}
    planter.run(0.6, setting=setting, training={**TRAINING, "epochs": 3, "max_steps": 7}, limit=64)
    (row,) = beside(planter)
    assert "learning_rate 0.01, not 0.0004" in row.differences
    assert "epochs 3, not 80" in row.differences
    assert "stops after 7 steps" in row.differences
    assert "at most 64 examples of each split" in row.differences
    assert not any(text.startswith(("r ", "alpha ", "batch_size ")) for text in row.differences)


def test_a_warm_start_and_a_quoted_number_are_reported(planter: Any) -> None:
    planter.run(0.8, task="glue/rte", metric="accuracy")
    quoted, own = sorted(beside(planter), key=lambda row: row.printed is not None and row.printed.source.own)
    assert quoted.printed is not None
    assert own.printed is not None
    assert (quoted.printed.value, own.printed.value) == (78.4, 86.6)
    assert str(quoted.printed.source).endswith("quoted there")
    warm = "the paper starts from its MNLI checkpoint; here from the pretrained model"
    assert warm in own.differences
    assert warm not in quoted.differences


def test_another_base_model_is_not_subtracted(planter: Any) -> None:
    planter.run(0.6, small=True, base_model="minilm-l6", task="glue/sst2", metric="accuracy")
    (row,) = beside(planter)
    assert row.difference is None
    assert row.differences[:2] == ("base model minilm-l6, not roberta-base", "small suite: small data, few steps")
    cells = dict(zip(HEAD, reproduction_table([row]).rows[0], strict=True))
    assert (cells["paper"], cells["difference"]) == ("95.1 ± 0.2 (roberta-base)", "not compared")


def test_unreadable_tables_are_reported(planter: Any) -> None:
    planter.run(0.6, method="replora", small=True)
    (row,) = beside(planter)
    assert (row.printed, row.difference, row.differences) == (None, None, (SMALL_LABEL,))
    cells = dict(zip(HEAD, reproduction_table([row]).rows[0], strict=True))
    assert cells["paper"] == PAPER_VALUE_UNAVAILABLE == "paper value unavailable"
    assert "2502.03044" in cells["source"]


def test_what_others_measured_stands_beside_unreadable_tables_and_nowhere_else(planter: Any) -> None:
    for method in ("loca", "lora"):
        rows = rows_of(0.6, "accuracy").assign(subset="boolq")
        rows["accuracy"] = (rows["label"] == rows["prediction"]).astype(float)
        planter.run(0.6, "accuracy", method=method, task="commonsense", rows=rows, others={"accuracy_boolq": 0.6})
    rows = beside(planter)
    # Its LoRA has another initialisation.
    assert not [row for row in rows if row.row == "lora" and row.printed and row.printed.source.measured_by_others]
    own = [row for row in rows if row.row == "loca"]
    unavailable, others = sorted(own, key=lambda row: row.printed is not None)
    assert (unavailable.printed, unavailable.metric) == (None, "accuracy")
    assert others.printed is not None
    assert (others.metric, others.printed.value, others.difference) == ("accuracy_boolq", 83.06, None)
    assert "measured by QWHA's authors with LoCA's layer, not by LoCA's authors" in others.differences
    cells = dict(zip(HEAD, reproduction_table([others]).rows[0], strict=True))
    assert cells["source"] == "QWHA, ICLR 2026 (arXiv 2509.17428), Table 11, measured by others"


def test_rows_without_a_source_are_not_shown(planter: Any) -> None:
    planter.run(0.6, method="adalora")
    planter.run(0.6, task="glue/wnli", metric="accuracy")
    assert beside(planter) == ()


def test_a_ratio_without_strict_is_another_grouping(planter: Any) -> None:
    for name in ("lora+qv_ratio(4)", "lora+qv_ratio(4,strict)", "lora+qv_ratio(3)"):
        planter.run(0.76, method=name, setting={"r": 16}, task="glue/rte", metric="accuracy")
    rows = beside(planter)
    assert sorted({row.row for row in rows}) == ["lora+qv_ratio(4)", "lora+qv_ratio(4,strict)"]
    grouped = "learning rates are not grouped as in the authors' code (modifier without strict)"
    assert all((grouped in row.differences) == (row.row == "lora+qv_ratio(4)") for row in rows)
    values = {row.printed.value: row.differences for row in rows if row.printed}
    assert set(values) == {75.09, 76.17}
    assert "r 16, not 8" in values[75.09]
    assert "r 16, not 16" not in values[76.17]


def test_an_interval_of_the_summary_is_shown(planter: Any) -> None:
    planter.seeds([0.60, 0.62, 0.64], setting=LORA_ON_COLA, training=TRAINING)
    runs = read_frame(planter.store).runs
    cells = runs.drop_duplicates("row").assign(low=0.58, high=0.66)
    (row,) = reproduction(runs, cells)
    assert row.interval == (0.58, 0.66)
    assert "58.0 to 66.0" in reproduction_table([row]).rows[0]


def test_the_protocol_that_papers_use_is_not_a_difference(planter: Any) -> None:
    spec = {"task": "glue/sst2", "base_model": "roberta-base", "method": "lora", "metric": "accuracy"}
    planter.run(0.95, **spec, seed=1)
    planter.run(0.95, **spec, seed=1, protocol="paper:best_epoch")
    message = [" ".join(row.differences) for row in reproduction(read_frame(planter.store).runs)]
    assert len(message) == 2
    assert sorted("best epoch" in differences for differences in message) == [False, True]


E2E = {"bleu": 0.69, "nist": 8.7, "meteor": 0.46, "rouge_l": 0.71, "cider": 2.4}
SETS = {
    "boolq": 0.70,
    "piqa": 0.81,
    "siqa": 0.78,
    "hellaswag": 0.79,
    "winogrande": 0.80,
    "arc_easy": 0.82,
    "arc_challenge": 0.65,
    "openbookqa": 0.75,
}


def of_paper(rows: tuple[Reproduced, ...], paper: str) -> dict[str, Reproduced]:
    return {row.metric: row for row in rows if row.printed and paper in row.printed.source.paper}


@pytest.mark.usefixtures("_unchecked")
def test_generated_texts_meet_what_is_printed_of_every_metric(planter: Any) -> None:
    others = {name: value for name, value in E2E.items() if name != "bleu"}
    for seed in range(3):
        spec = {"task": "e2e_nlg", "base_model": "gpt2-medium", "setting": {"r": 4}, "seed": seed}
        planter.run(E2E["bleu"], metric="bleu", others=others, **spec)
    rows = of_paper(beside(planter), "2106.09685")
    values = {number.metric: number for number in published() if number.source.table == "Table 3"}
    assert set(rows) == set(E2E) <= set(values)
    for name, row in rows.items():
        assert row.printed is not None
        factor = 1 if name in ("nist", "cider") else 100
        assert row.difference == pytest.approx(factor * E2E[name] - row.printed.value)
        assert (row.n, row.sd) == (3, pytest.approx(0.0, abs=1e-12))
        assert abs(row.difference or 0) < row.printed.value / 5  # of one unit
    texts = {row[3]: row[4] for row in reproduction_table(list(rows.values())).rows}
    assert (texts["bleu"], texts["nist"]) == ("69.0 ± 0.0 (n=3)", "8.70 ± 0.00 (n=3)")


@pytest.mark.usefixtures("_unchecked")
def test_commonsense_meets_what_is_printed_of_every_set(planter: Any) -> None:
    mean = sum(SETS.values()) / len(SETS)
    others = {f"accuracy_{name}": value for name, value in SETS.items()}
    spec = {"task": "commonsense", "base_model": "llama-7b", "metric": "accuracy"}
    planter.run(mean, others=others, **spec)
    rows = of_paper(beside(planter), "2402.09353")
    assert set(rows) == {"accuracy", *others}
    for name, row in rows.items():
        assert row.printed is not None
        assert row.difference == pytest.approx(100 * {"accuracy": mean, **others}[name] - row.printed.value)


@pytest.mark.usefixtures("_unchecked")
def test_another_base_model_stands_beside_one_number_of_every_metric(planter: Any) -> None:
    others = {f"accuracy_{name}": value for name, value in SETS.items()}
    planter.run(0.76, task="commonsense", base_model="smollm", metric="accuracy", others=others)
    rows = beside(planter)
    assert sorted(row.metric for row in rows) == sorted(["accuracy", *others])
    assert all(row.difference is None for row in rows)


@pytest.mark.usefixtures("_unchecked")
def test_images_meet_what_is_printed(planter: Any) -> None:
    tasks = sorted({number.task for number in published() if number.task.startswith("vision/")})
    assert len(tasks) == 10
    for task in tasks:
        planter.run(0.8, task=task, base_model="vit-base", metric="accuracy", method="lora")
    rows = beside(planter)
    assert {row.task for row in rows} == set(tasks)
    for row in rows:
        assert row.printed is not None
        assert row.printed.base_model == "vit-base"
        assert row.difference == pytest.approx(80 - row.printed.value)
