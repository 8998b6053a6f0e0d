"""What the data of a run is said to lack, beside its rows."""

import warnings

import pytest

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.train.input_checks import cut_answers, cut_prompts, cut_texts
from parbench.bench.train.prepare import prepare
from parbench.tasks.data.lock import RevisionLock
from tests.support.films import COMMON, FILMS, task_file
from tests.support.tiny_llama import tiny_llama, tiny_model_folder

PAIRS = {**FILMS, "texts": ["sentence", "other"]}
ASKED = {**COMMON, "kind": "text_generation", "prompt": "{sentence}", "response": " {other}", "metrics": ["rouge_l"]}
# Of 40 texts 12 are long.
ROWS = [
    {"sentence": " ".join(["good film"] * (9 if n % 10 < 3 else 1)), "other": f"film {n % 7}", "label": n % 2}
    for n in range(40)
]


@pytest.fixture
def notes(tmp_path, tiny_model):
    """Return the warnings and findings of preparing the data of a run."""

    def of(fields, max_length, rows=ROWS, reported=None, base_model=tiny_model):
        overrides = Overrides(
            methods=("lora",),
            tasks=(str(task_file(tmp_path, fields, rows, reported)),),
            base_model=str(base_model),
            seeds=(1,),
            sets=(f"train.max_length={max_length}",),
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json")).runs
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = prepare(run)
        return [str(entry.message) for entry in caught], data.findings

    return of


@pytest.mark.parametrize("fields", [FILMS, PAIRS], ids=["one text", "two texts"])
@pytest.mark.parametrize(("length", "share"), [(10, "33%"), (1, "100%"), (64, None)])
def test_texts_that_a_length_cuts_are_noted(notes, fields, length, share):
    cut = [note for note in notes(fields, length)[0] if "train.max_length" in note]
    expected = f"{share} of the training texts have more than {length} tokens, train.max_length, and were cut"
    assert cut == ([] if share is None else [expected])


def test_prompts_that_a_length_cuts_are_noted(notes, tmp_path):
    llama = tiny_model_folder(tmp_path / "llama", tiny_llama())
    (cut,) = [note for note in notes(ASKED, 40, base_model=llama)[0] if "train.max_length" in note]
    assert cut.startswith("31% of the training texts have more than 40 tokens")
    assert not [note for note in notes(ASKED, 400, base_model=llama)[0] if "train.max_length" in note]


def test_answers_that_lose_their_end_are_noted(notes, tmp_path):
    """A byte is a token of the tiny model: an answer of 60 bytes and its end of text do not fit into 40."""
    llama = tiny_model_folder(tmp_path / "llama", tiny_llama())
    rows = [{"sentence": f"film {n}", "other": "x" * (60 if n < 20 else 5), "label": 0} for n in range(40)]
    cut = [note for note in notes(ASKED, 40, rows, base_model=llama)[0] if "answers" in note]
    assert len(cut) == 1
    assert "do not fit into 40 tokens, train.max_length, and lost their end" in cut[0]
    assert not [note for note in notes(ASKED, 80, rows, base_model=llama)[0] if "answers" in note]


def test_prompts_of_an_encoder_and_answers_are_counted():
    assert cut_prompts([10, 11, 12, 9, 9], 10).startswith("40% of the training prompts have more than 10 tokens")
    assert cut_prompts([10] * 10, 10) is None
    assert cut_prompts([], 10) is None
    assert cut_answers([[-100, 5, 2]] * 99 + [[5, 5]], 2, 8) is None
    assert cut_answers([[-100, 5, 2]] * 9 + [[5, 5]], 2, 8).startswith("10% of the training answers do not fit into 8")


def test_texts_of_just_the_length_are_not_cut():
    assert cut_texts([5] * 10, lambda places: [5 for _ in places], 5) is None
    assert cut_texts([5] * 2 + [4] * 8, lambda places: [6 for _ in places], 5).startswith("20% of the training texts")
    assert cut_texts([5] + [4] * 9, lambda places: [6 for _ in places], 5) is None


def test_of_very_many_texts_some_are_looked_at():
    asked = []
    assert cut_texts([5] * 100_000, lambda places: asked.extend(places) or [6 for _ in places], 5).startswith("100%")
    assert len(asked) == len(set(asked)) == 1000


def test_reported_examples_that_are_in_training_are_a_finding(notes):
    rows = [{"sentence": f"film {n}", "other": "", "label": n % 2} for n in range(40)]
    (found,) = notes(FILMS, 32, rows, rows[:10])[1]
    assert found.startswith("10 of 10 reported examples (100.0%) are in train or selection as well")
    assert notes(FILMS, 32, rows, [{"sentence": "new", "other": "", "label": n} for n in (0, 1)])[1] == ()
