"""What planted stores let be said of methods, on a task of their own and on a new one."""

import pytest

from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.reports.recommend.evidence import of_methods, read_evidence
from parbench.reports.recommend.quality import quality
from tests.support.planter import Planter

TEXT = ["glue/rte", "glue/qnli", "glue/sst2", "glue/wnli", "glue/mrpc", "glue/qqp"]
# lora and loca are level; vera makes twice the mistakes.
TIE_AND_LOSER = {"lora": 0.12, "loca": 0.12, "vera": 0.25}


def test_a_task_of_its_own_counts_alone(planted):
    store, means = planted("one", TIE_AND_LOSER, ["glue/rte"])
    other, _ = planted("other", {"lora": 0.3, "loca": 0.2, "vera": 0.1}, ["glue/qnli"])
    found = quality(read_evidence([store, other]).evidence, "glue/rte", "roberta-base", "text")
    assert found.basis == "measured"
    assert [one.task for one in found.evidence] == ["glue/rte"]
    assert found.values == {row: pytest.approx(means["glue/rte", row]) for row in TIE_AND_LOSER}
    assert found.better == {("lora", "vera"), ("loca", "vera")}
    assert found.is_shown_worse("vera")
    assert not found.is_shown_worse("lora")


def test_a_new_task_is_judged_by_ranks_on_others(planted):
    store, _ = planted("many", {"lora": 0.10, "loca": 0.17, "vera": 0.25}, TEXT)
    found = quality(read_evidence([store]).evidence, "glue/cola", "roberta-base", "text")
    assert found.basis == "extrapolated"
    assert found.rows == ("lora", "loca", "vera")
    assert dict(found.over_tasks.mean_ranks) == {"lora": 1.0, "loca": 2.0, "vera": 3.0}
    # Nemenyi's critical difference of 3 methods on 6 tasks is 2.343 * sqrt(3 * 4 / 36) = 1.353 (Demsar 2006, table 5).
    assert found.better == {("lora", "vera")}
    assert found.on_tasks == {"lora": 6, "loca": 6, "vera": 6}


def test_of_few_tasks_nothing_is_told_apart(planted):
    store, _ = planted("two", {"lora": 0.10, "vera": 0.25}, TEXT[:2])
    found = quality(read_evidence([store]).evidence, "glue/cola", "roberta-base", "text")
    assert found.rows == ("lora", "vera")
    assert found.better == frozenset()
    assert "needs 3 or more" in found.why_not_told


def test_tasks_of_its_kind_come_before_others(planted):
    texts, _ = planted("texts", {"lora": 0.10, "vera": 0.25}, ["glue/rte"])
    images, _ = planted("images", {"lora": 0.25, "vera": 0.10}, ["vision/dtd"])
    known = read_evidence([texts, images]).evidence
    assert [one.kind for one in known] == ["text", "image"]
    assert quality(known, "vision/eurosat", "vit-base", "image").rows == ("vera", "lora")
    assert quality(known, "glue/cola", "roberta-base", "text").rows == ("lora", "vera")
    both = quality(known, "e2e_nlg", "gpt2-medium", "language_model")
    assert {one.kind for one in both.evidence} == {"text", "image"}


def test_of_one_method_nothing_is_known(planted):
    store, _ = planted("lone", {"lora": 0.1}, TEXT)
    assert quality(read_evidence([store]).evidence, "glue/rte", "roberta-base", "text") is None
    assert quality([], "glue/rte", "roberta-base", "text") is None


def test_a_method_that_did_not_learn_is_no_candidate(planted):
    store, _ = planted("constant", {"lora": 0.1, "loca": 0.2, "vera": 1.0}, ["glue/rte"])
    (one,) = read_evidence([store]).evidence
    assert set(one.column.standings) == {"lora", "loca", "vera"}
    assert quality([one], "glue/rte", "roberta-base", "text").rows == ("lora", "loca")


def test_a_task_under_two_conditions_counts_once(planted, tmp_path):
    store, _ = planted("small", {"lora": 0.1, "loca": 0.2}, ["glue/rte"], limit=100)
    more, _ = planted("large", {"lora": 0.1, "loca": 0.2, "vera": 0.3}, ["glue/rte"])
    known = read_evidence([store, more])
    (one,) = known.evidence
    assert one.store == str(more.root)
    assert "glue/rte with roberta-base was run under 2 conditions" in " ".join(known.notes)


def test_only_some_methods(planted):
    store, _ = planted("three", TIE_AND_LOSER, ["glue/rte"])
    known = read_evidence([store]).evidence
    (one,) = of_methods(known, ["lora", "vera"])
    assert set(one.cells) == set(one.column.standings) == {"lora", "vera"}
    # The pair stays corrected for the three of its task.
    (pair,) = one.column.comparisons
    assert pair in known[0].column.comparisons
    with pytest.raises(UserError, match='there are no runs of "lara"; did you mean "lora"'):
        of_methods(known, ["lara"])


def test_a_task_of_a_package_that_is_not_here_has_no_kind(tmp_path):
    store = Store(tmp_path / "store")
    store.prepare()
    for method in ("lora", "vera"):
        Planter(store).seeds([0.5, 0.6, 0.7], method=method, task="mine/theirs", metric="accuracy")
    (one,) = read_evidence([store]).evidence
    assert one.kind is None


def test_of_one_seed_nothing_is_told_apart(planted):
    store, means = planted("one", {"lora": 0.10, "loca": 0.11, "vera": 0.25}, ["glue/rte"], seeds=(0,))
    found = quality(read_evidence([store]).evidence, "glue/rte", "roberta-base", "text")
    assert found.rows[0] == "lora"
    assert found.values["vera"] == pytest.approx(means["glue/rte", "vera"])
    assert found.better == frozenset()
    assert found.why_not_told


def test_where_no_method_learnt_there_is_nothing_to_recommend(planted):
    store, _ = planted("constant", {"lora": 1.0, "loca": 1.0}, ["glue/rte"])
    assert quality(read_evidence([store]).evidence, "glue/rte", "roberta-base", "text") is None


def test_methods_of_two_protocols_are_not_put_into_one_list(planted):
    strict, _ = planted("strict", {"lora": 0.2, "loca": 0.1}, ["glue/rte"])
    best, _ = planted("best", {"dora": 0.01, "lora": 0.02, "vera": 0.03}, ["glue/rte"], protocol="paper:best_epoch")
    known = read_evidence([strict, best])
    (one,) = known.evidence
    assert set(one.cells) == {"dora", "lora", "vera"}
    assert "was run under 2 conditions; used is that of the most methods" in " ".join(known.notes)
    assert "best_epoch" in one.conditions


def test_runs_on_other_base_weights_are_rows_of_their_own(planted):
    full, _ = planted("mixed", {"lora": 0.1, "vera": 0.2}, ["glue/rte"])
    planted("mixed", {"lora": 0.3}, ["glue/rte"], base_precision="nf4")
    found = quality(read_evidence([full]).evidence, "glue/rte", "roberta-base", "text")
    assert len(found.rows) == 3
    assert {str(found.cell_of(row)[1]["base_precision"]) for row in found.rows} == {"float32", "nf4"}
