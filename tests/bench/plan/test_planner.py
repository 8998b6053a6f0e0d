from dataclasses import replace
from pathlib import Path

import pytest

from parbench.bench.plan.planner import Overrides, Plan, make_plan, refuse_unknown_names
from parbench.bench.plan.suite import Suite, Tuning, load_suite
from parbench.bench.plan.tuning import to_be_tuned
from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock


@pytest.fixture
def plan(tmp_path):
    def make(suite="mini", **overrides) -> Plan:
        return make_plan(load_suite(suite), Overrides(**overrides), RevisionLock(tmp_path / "lock.json"))

    return make


def test_a_plan_is_every_task_seed_and_method(plan):
    runs = plan(methods=("loca", "lora"), tasks=("glue/sst2", "glue/rte"), seeds=(4, 5)).runs
    assert [(run.spec.task, run.spec.seed, run.spec.method) for run in runs] == [
        (task, seed, method) for task in ("glue/sst2", "glue/rte") for seed in (4, 5) for method in ("loca", "lora")
    ]
    assert len({run.spec.run_id for run in runs}) == len(runs)


def test_a_group_is_those_of_its_tasks_that_the_source_has(plan):
    made = plan(tasks=("glue",), seeds=(1,), methods=("lora",))
    assert [run.spec.task for run in made.runs] == ["glue/sst2", "glue/mrpc", "glue/rte"]
    assert "left out glue/cola: no package carries the data of glue-cola" in made.notes
    assert len(made.notes) == 6


def test_a_task_asked_for_by_name_must_be_there(plan):
    with pytest.raises(UserError, match=r"the task glue/cola cannot run: no package carries .*--data-root"):
        plan(tasks=("glue/sst2", "glue/cola"))


def test_of_a_suites_tasks_those_that_a_data_root_lacks_are_left_out_and_reported(plan, tiny_data):
    made = plan("small", data_root=tiny_data, methods=("linear_probe",), seeds=(1,))
    assert {run.spec.task for run in made.runs} == {"glue/sst2"}
    left_out = [note.partition(":")[0] for note in made.notes if note.startswith("left out ")]
    others = ("glue/cola", "glue/mrpc", "glue/rte", "glue/stsb", "vision/cifar10", "vision/dtd")
    assert left_out == [f"left out {name}" for name in others]
    with pytest.raises(UserError, match=r"the task glue/cola cannot run: .*--data-root"):
        plan("small", data_root=tiny_data, tasks=("glue/sst2", "glue/cola"))
    with pytest.raises(UserError, match="can run: "):
        plan("small", data_root=tiny_data / "glue-sst2")


def test_a_data_root_takes_the_place_of_the_suites_source(plan, tiny_data):
    made = plan(tasks=("glue",), data_root=tiny_data)
    assert {run.spec.task for run in made.runs} == {"glue/sst2"}
    assert made.runs[0].spec.data_source == "local folder glue-sst2"
    assert made.runs[0].spec.data_revision.startswith("sha256:")


def test_local_data_that_changes_makes_other_runs(plan, tmp_path):
    root = tmp_path / "data"
    for split in ("train", "validation"):
        (root / "glue-sst2").mkdir(parents=True, exist_ok=True)
        (root / "glue-sst2" / f"{split}.csv").write_text("sentence,label\na,0\nb,1\n")
    before = plan(tasks=("glue/sst2",), data_root=root).runs[0].spec.run_id
    assert plan(tasks=("glue/sst2",), data_root=root).runs[0].spec.run_id == before
    (root / "glue-sst2" / "train.csv").write_text("sentence,label\na,0\nc,1\n")
    assert plan(tasks=("glue/sst2",), data_root=root).runs[0].spec.run_id != before


def test_the_command_line_wins_over_the_suite(plan):
    run = plan(sets=("lora.r=4", "train.batch_size=7"), methods=("lora",)).runs[0]
    assert run.spec.setting["r"] == 4
    assert run.spec.setting["alpha"] == 16.0  # the suite's
    assert run.spec.training["batch_size"] == 7


@pytest.mark.parametrize("budget", [None, "4k"])
@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"target_modules": ["qery"]}, 'target_modules has "qery", which no module of this model is called'),
        ({"layers": [7]}, "layers has 7, but the layers of this model are 0 and 1"),
        ({"target_modules": ["LayerNorm"]}, "LayerNorm"),  # peft's own words
    ],
)
def test_modules_and_layers_that_a_suite_names_wrongly_are_refused_before_any_run(
    tmp_path, tiny_model, tiny_data, budget, values, complaint
):
    own = load_suite("mini").model_copy(
        update={"name": "my_suite", "tuning": None, "budget": budget, "by_task": {}, "settings": {"lora": values}}
    )
    asked = Overrides(methods=("lora",), tasks=("glue/sst2",), data_root=tiny_data, sets=("train.max_length=32",))

    def made(suite, **changes):
        return make_plan(suite, replace(asked, **changes), RevisionLock(tmp_path / "lock.json"))

    with pytest.raises(UserError, match=r"my_suite.*lora on tiny-bert: .*" + complaint):
        made(own, base_model=str(tiny_model))
    # A suite that comes with parbench is not written for this model, and what the model refuses is no mistake.
    if budget is None:
        with pytest.raises(UserError, match=r"there is nothing to run: .*" + complaint):
            made(own.model_copy(update={"name": "mini"}), base_model=str(tiny_model))
    # Nor is it one of the suite where the model refuses the method itself.
    unsuited = replace(asked, methods=("lora", "lora_gen"), base_model=str(tiny_model))
    plain = own.model_copy(update={"settings": {"lora_gen": {"learning_rate": 1e-3}}, "budget": None})
    skipped = {run.spec.method: run.skip for run in make_plan(plain, unsuited, RevisionLock(tmp_path / "l.json")).runs}
    assert skipped["lora"] is None
    assert skipped["lora_gen"]


def test_a_length_in_epochs_replaces_one_in_steps(plan):
    training = plan(sets=("train.epochs=2",)).runs[0].spec.training
    assert (training["epochs"], training["max_steps"]) == (2.0, None)


def test_a_paper_suite_starts_from_the_published_settings(plan):
    by_run = {(run.spec.method, run.spec.task): run.spec for run in plan("loca_paper").runs}
    loca = by_run["loca", "glue/mrpc"]
    assert (loca.setting["learning_rate"], loca.setting["head_learning_rate"]) == (1e-2, 6e-3)
    assert loca.setting["location_learning_rate"] == 1e-4
    lora = by_run["lora", "glue/mrpc"]
    assert (lora.setting["learning_rate"], lora.setting["r"], lora.setting["alpha"]) == (4e-4, 8, 8.0)
    assert (lora.training["batch_size"], lora.training["epochs"], lora.training["max_length"]) == (16, 30, 512)
    assert {spec.seed for spec in by_run.values()} <= {6, 66, 666}


def test_pinned_revisions_are_in_the_spec(plan):
    spec = plan("loca_paper").runs[0].spec
    assert spec.data_revision == "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
    assert spec.model_revision == "e2da8e2f811d1448a5b465c236feacd80ffbac7b"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"methods": ("lorra",)}, 'no method called "lorra"; did you mean "lora"'),
        ({"tasks": ("gleu",)}, 'no task called "gleu"; did you mean "glue"'),
        ({"tasks": ("glue/sst3",)}, 'did you mean "glue/sst2"'),
        ({"base_model": "minilm"}, 'no base model called "minilm"; did you mean "minilm-l6"'),
        ({"sets": ("lora.rank=4",)}, 'lora on mmlu_subject is wrong: there is no field "rank"'),
        ({"sets": ("lora.r=-1",)}, 'field "r": input should be greater than 0 \\(it is -1\\)'),
        ({"sets": ("lora.r=many",)}, "valid integer"),
        ({"sets": ("lora.learning_rate=.nan",)}, 'field "learning_rate"'),
        (
            {"sets": ("train.lr=1e-3",)},
            'no field "lr": methods have learning rates of their own, as lora.learning_rate',
        ),
        ({"sets": ("lora.lr=1e-3",)}, 'there is no field "lr"; did you mean "learning_rate"'),
        ({"sets": ("train.max_step=3",)}, 'there is no field "max_step"; did you mean "max_steps"'),
        ({"sets": ("replora.r=1",)}, '"replora" is not in this comparison'),
        ({"sets": ("r=1",)}, "is not of the form method.key=value, for example lora.r=4$"),
        ({"sets": ("num_train_epochs=2",)}, "is not of the form method.key=value, for example train.epochs=2$"),
        ({"sets": ("lora.r=1970-99-99",)}, "neither a number, a word nor a"),
        ({"sets": ("lora.r={a: 1, a: 2}",)}, "neither a number, a word nor a"),
        ({"sets": ("lora.r=[",)}, "neither a number, a word nor a"),
        ({"data_root": Path("no/such/folder")}, 'the data root "no/such/folder" is not a folder'),
    ],
)
def test_what_is_wrong_is_a_sentence(plan, overrides, complaint):
    with pytest.raises(UserError, match=complaint):
        plan(**overrides)


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        ({"by_task": {"glue/sst": {"limit": 5}}}, 'values by_task for "glue/sst"; did you mean "glue/sst2"'),
        ({"by_task": {"gleu": {"limit": 5}}}, 'values by_task for "gleu"; did you mean "glue"'),
        ({"settings": {"lorra": {"r": 4}}}, 'settings for "lorra"; did you mean "lora"'),
        ({"by_task": {"glue": {"settings": {"lorra": {"r": 4}}}}}, 'settings for "lorra"; did you mean "lora"'),
        ({"settings": {"lora+qv_ratio(4)+rslora": {}}}, r'settings for .*; write it "lora\+rslora\+qv_ratio\(4\)"'),
    ],
)
def test_values_for_what_is_not_there_are_refused(layers, complaint, tmp_path):
    suite = Suite.model_validate({**load_suite("mini").model_dump(), "tuning": None, **layers})
    with pytest.raises(UserError, match=f'the suite "mini" has {complaint}'):
        make_plan(suite, Overrides(tasks=("glue/sst2",), methods=("lora",)), RevisionLock(tmp_path / "lock.json"))


def test_values_for_a_task_of_a_file_are_the_suites_to_have():
    suite = Suite.model_validate(
        {**load_suite("mini").model_dump(), "tuning": None, "by_task": {"my/reviews": {"limit": 5}}}
    )
    with pytest.raises(UserError, match='by_task for "my/reviews"'):
        refuse_unknown_names(suite, ["glue/sst2"])
    refuse_unknown_names(suite, ["my/reviews"])
    refuse_unknown_names(suite.model_copy(update={"tasks": ("my_task.yaml",)}), ["glue/sst2"])


def test_what_is_missing_beside_data_is_not_a_file(plan, monkeypatch):
    for name in ("PARBENCH_JUDGE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"cannot run: the judge .* needs an API key") as caught:
        plan(tasks=("mt_bench",), options={"judge": "gpt-4@https://judge.invalid/v1"})
    assert "--data-root" not in str(caught.value)


def test_a_method_of_fixed_size_is_one_run_for_all_budgets(plan):
    made = plan(methods=("full", "lora", "linear_probe"), tasks=("glue/sst2",), seeds=(1, 2), budgets="24k,48k")
    found = [(run.spec.method, run.spec.budget and run.spec.budget["asked"], run.spec.seed) for run in made.runs]
    assert sorted(found, key=str) == [
        *(("full", None, seed) for seed in (1, 2)),
        *(("linear_probe", None, seed) for seed in (1, 2)),
        *(("lora", budget, seed) for budget in ("24k", "48k") for seed in (1, 2)),
    ]
    assert made.budget == "24k,48k"
    assert not any("budget" in note for run in made.runs if run.spec.budget is None for note in run.notes)
    # They are the runs of a comparison without a budget.
    without = plan(methods=("full", "linear_probe"), tasks=("glue/sst2",), seeds=(1, 2), budgets="none")
    fixed = [run for run in made.runs if run.spec.budget is None]
    assert {run.spec.run_id for run in without.runs} == {run.spec.run_id for run in fixed}


def test_tuned_settings_of_a_suite_are_for_its_own_base_models(tmp_path, tiny_model, tiny_data):
    found = {"glue/sst2": {"lora": {"best": 0, "trials": [{"learning_rate": 0.1, "score": 0.5}]}}}
    tuning = Tuning(
        trials=1,
        selection_seeds=(9,),
        sampler="tpe",
        sampler_seed=0,
        base_model="minilm-l6",
        budget="0.17%",
        sets=("train.max_length=64",),
        found=found,
    )
    tuned = load_suite("mini").model_copy(update={"tuning": tuning})
    untuned = "its setting was not tuned, though the suite is of tuned ones"
    for method, base_model, expected in (
        ("lora", None, []),
        # What is set by hand in place of what was tuned was not tuned.
        ("lora(learning_rate=0.2)", None, [untuned]),
        ("lora(dropout=0.1)", None, [untuned]),
        ("lora(dropout=0)", None, []),  # as it is
        ("vera", None, [untuned]),
        ("lora", str(tiny_model), ["the settings of the suite were tuned on its own base models", untuned]),
    ):
        overrides = Overrides(
            tasks=("glue/sst2",),
            methods=(method,),
            seeds=(1,),
            base_model=base_model,
            data_root=tiny_data,
            sets=("train.max_length=64",),
        )
        plan = make_plan(tuned, overrides, RevisionLock(tmp_path / "lock.json"))
        notes = [note for note in (*plan.notes, *plan.runs[0].notes) if "tuned" in note]
        assert [note.partition(", not on")[0] for note in notes] == expected
    trained = "its setting was tuned with another training, or on other data"
    own_sets = [{"sets": (*tuning.sets, text)} for text in ("train.batch_size=16", "train.weight_decay=0")]
    others = ({"sets": (*tuning.sets, "train.max_steps=5")}, {"sets": ()}, {"limit": 20}, {"train_fractions": (0.5,)})
    for changed in ({}, *own_sets, *others):
        expected = [trained] if changed in others else []
        asked = replace(overrides, methods=("lora",), base_model=None, **changed)
        plan = make_plan(tuned, asked, RevisionLock(tmp_path / "lock.json"))
        assert [note for note in plan.runs[0].notes if "tuned" in note] == expected
    own = tuned.model_copy(update={"name": "my-tuned"})
    with pytest.raises(UserError, match=r"was tuned on minilm-l6, not on .*; tune it again, or leave --model out"):
        make_plan(own, overrides, RevisionLock(tmp_path / "lock.json"))


def test_of_a_suite_with_tuned_settings_the_others_are_left_to_tune_at_its_budget(tmp_path, tiny_data):
    found = {"glue/sst2": {"lora": {"best": 0, "trials": [{"learning_rate": 0.1, "score": 0.5}]}}}
    plain = load_suite("mini")
    names = ("lora", "vera", "linear_probe")

    def left(tuned_at, budgets):
        tuning = Tuning(
            trials=1,
            selection_seeds=(9,),
            sampler="tpe",
            sampler_seed=0,
            base_model=plain.base_model,
            budget=tuned_at,
            found=found,
        )
        suite = plain.model_copy(update={"tuning": tuning})
        overrides = Overrides(tasks=("glue/sst2",), methods=names, seeds=(1,), budgets=budgets, data_root=tiny_data)
        runs = make_plan(suite, overrides, RevisionLock(tmp_path / "lock.json")).runs
        assert to_be_tuned(plain.model_copy(update={"tuning": None}), runs) == runs
        return [(run.spec.method, run.spec.budget and run.spec.budget["asked"]) for run in to_be_tuned(suite, runs)]

    assert left("24k", "24k,match:lora(r=8)") == [("vera", "24k"), ("linear_probe", None)]
    assert left("12k,24k", "24k") == [("vera", "24k"), ("linear_probe", None)]
    # At none of the budgets that are asked for: each of them is to be tuned at.
    assert left("12k", "24k,48k") == [("vera", "24k"), ("linear_probe", None), ("vera", "48k")]


def test_each_precision_of_the_base_weights_is_a_run(plan):
    alone = plan(methods=("lora",), tasks=("glue/sst2",), seeds=(1,)).runs
    runs = plan(methods=("lora",), tasks=("glue/sst2",), seeds=(1,), base_precisions=("float32", "bfloat16")).runs
    assert [run.spec.base_precision for run in runs] == ["float32", "bfloat16"]
    # As before there was a choice.
    assert runs[0].spec.run_id == alone[0].spec.run_id
    assert runs[1].spec.run_id != runs[0].spec.run_id
    assert not any("base weights" in note for note in runs[0].notes)
    assert any("rounded to bfloat16" in note for note in runs[1].notes)
    assert "with minilm-l6 in bfloat16 within" in str(runs[1].spec)


def test_methods_that_do_not_work_on_quantised_weights_are_skipped_with_the_reason(plan):
    pytest.importorskip("bitsandbytes")
    made = plan(methods=("lora", "full"), tasks=("glue/sst2",), seeds=(1,), base_precisions=("nf4",), budgets="24k")
    lora, full = made.runs
    assert lora.skip is None
    # Counted on the architecture before it is quantised: two projections in six layers.
    assert lora.spec.setting["r"] * 2 * 6 * (384 + 384) <= 24_000 < (lora.spec.setting["r"] + 1) * 2 * 6 * 768
    assert full.skip.startswith("full: does not work on nf4 weights (") or "nothing fits" in full.skip


def test_a_suite_may_have_a_precision_and_the_command_line_another(tmp_path):
    suite = load_suite("mini").model_copy(update={"base_precisions": ("bfloat16",)})
    lock = RevisionLock(tmp_path / "lock.json")
    common = {"methods": ("lora",), "tasks": ("glue/sst2",), "seeds": (1,)}
    (run,) = make_plan(suite, Overrides(**common), lock).runs
    assert run.spec.base_precision == "bfloat16"
    (run,) = make_plan(suite, Overrides(**common, base_precisions=("float32",)), lock).runs
    assert run.spec.base_precision == "float32"
