"""Metrics of texts in many scripts: what the references score against themselves, and against other texts."""

import random
import string
import sys

import numpy as np
import pytest
import sacrebleu
from rouge_score.tokenizers import DefaultTokenizer

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.inputs import DataCache
from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.from_yaml import task_of_file
from parbench.tasks.metrics.texts import METRICS, reference_scores, unfair
from parbench.tasks.metrics.tokens import TokenizerNames, UnicodeTokenizer, sacrebleu_metric
from tests.support.tiny_llama import tiny_llama, tiny_model_folder
from tests.support.yaml_files import ASKED, QUESTIONS, both, loaded, task_file

TEXTS = {
    "english": ["the cat sat on the mat", "it was naïve"],
    "german": ["die größe der grüße ist egal", "schöne Straße"],
    "russian": ["кошка сидела на коврике вчера", "да"],
    "greek": ["η γάτα κάθισε στο χαλί", "όχι"],
    "hindi": ["बिल्ली चटाई पर बैठी है", "हाँ"],
    "arabic": ["جلست القطة على السجادة أمس", "نعم"],
    "hebrew": ["החתול ישב על השטיח אתמול", "כן"],
    "korean": ["고양이가 어제 매트 위에 앉았다", "네"],
    "chinese": ["猫昨天坐在垫子上。", "是"],
    "japanese": ["猫は昨日マットに座った。", "はい"],
    "thai": ["แมวนั่งบนเสื่อเมื่อวาน", "ใช่"],
    "khmer": ["ឆ្មាអង្គុយលើកន្ទេល", "បាទ"],
}
UNSPACED = {"chinese": "zh", "japanese": "char", "thai": "char", "khmer": "char"}


@pytest.mark.parametrize("language", TEXTS)
def test_references_get_full_marks_in_every_script(language):
    references = [[text] for text in TEXTS[language]]
    tokens = TokenizerNames(bleu=UNSPACED.get(language, "13a"))
    assert reference_scores(references, list(METRICS), tokens) == pytest.approx(dict.fromkeys(METRICS, 1.0))
    assert unfair(references, list(METRICS), tokens) == {}


@pytest.mark.parametrize("language", UNSPACED)
@pytest.mark.parametrize("tokens", ["13a", "intl"])
def test_sentences_without_spaces_are_not_words_for_bleu(language, tokens):
    references = [[text] for text in TEXTS[language]]
    assert list(unfair(references, list(METRICS), TokenizerNames(bleu=tokens))) == ["bleu"]
    # Nor are they where a few have spaces, and so full marks.
    spaced = [[" ".join(TEXTS[language] * 4)]]
    assert reference_scores(spaced, ["bleu"], TokenizerNames(bleu=tokens))["bleu"] == pytest.approx(1)
    assert "without spaces" in unfair(spaced, ["bleu"], TokenizerNames(bleu=tokens))["bleu"]


def test_answers_under_four_tokens_have_no_bleu():
    assert list(unfair([["a b c"], ["yes"]], list(METRICS), TokenizerNames())) == ["bleu"]
    assert unfair([["a b c d"], ["yes"]], list(METRICS), TokenizerNames()) == {}


def rouge(text, reference, **tokens):
    return METRICS["rouge_l"].statistics(text, [reference], TokenizerNames(**tokens))


def test_rouge_l_sees_the_letters_of_every_script():
    assert rouge("größe", "grüße") == 0
    assert rouge("größe", "grüße", rouge_l="ascii") == 1
    assert rouge("das ist größe", "das ist grüße") == pytest.approx(2 / 3)
    assert rouge("坐在垫子上", "坐在垫子下") == pytest.approx(0.8)
    assert rouge("Привет мир", "привет друг") == pytest.approx(0.5)
    # One word, whether its marks are letters of their own or not.
    assert rouge("cafe\u0301", "caf\u00e9") == 1
    assert rouge("?!", "?!") == 1
    assert rouge("", "word") == rouge("word", "") == 0


def test_on_ascii_the_words_are_those_of_rouge_score():
    theirs, ours, draw = DefaultTokenizer(use_stemmer=False), UnicodeTokenizer(), random.Random(1)
    for _ in range(500):
        text = "".join(draw.choices(string.printable, k=draw.randint(1, 40)))
        if words := theirs.tokenize(text):
            assert ours.tokenize(text) == words


@pytest.mark.parametrize("tokens", ["13a", "intl", "zh", "char"])
def test_bleu_is_sacrebleus_with_the_same_tokens(tokens):
    references = [text for texts in TEXTS.values() for text in texts]
    texts = [text[:-2] + text[-1] for text in references]
    expected = sacrebleu.corpus_bleu(texts, [references], tokenize=tokens).score / 100
    pairs = zip(texts, references, strict=True)
    rows = [METRICS["bleu"].statistics(text, [reference], TokenizerNames(bleu=tokens)) for text, reference in pairs]
    assert METRICS["bleu"].score(np.sum(rows, axis=0), len(rows)) == pytest.approx(expected)


def test_japanese_words_are_mecabs():
    pytest.importorskip("MeCab")
    tokens, text = TokenizerNames(bleu="ja-mecab"), TEXTS["japanese"][0]
    assert METRICS["bleu"].seen(text, tokens) == "猫 は 昨日 マット に 座っ た 。"
    assert reference_scores([[text]], ["bleu"], tokens)["bleu"] == pytest.approx(1)
    # Of the eight words the third differs: 7 of 8 words are there, and 5 of 7, 3 of 6 and 2 of 5 n-grams.
    other = text.replace("昨日", "今日")
    statistics = METRICS["bleu"].statistics(other, [text], tokens)
    assert METRICS["bleu"].score(np.array(statistics), 1) == pytest.approx((7 / 8 * 5 / 7 * 3 / 6 * 2 / 5) ** 0.25)


@pytest.mark.parametrize(
    ("tokens", "package", "language"), [("ja-mecab", "MeCab", "ja"), ("ko-mecab", "mecab_ko", "ko")]
)
def test_tokens_that_are_not_installed_are_one_sentence(monkeypatch, tokens, package, language):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"sacrebleu.tokenizers.tokenizer_{language}_mecab", raising=False)
    sacrebleu_metric.cache_clear()
    with pytest.raises(UserError) as error:
        reference_scores([["猫"]], ["bleu"], TokenizerNames(bleu=tokens))
    assert str(error.value).startswith(f"the tokens {tokens} of BLEU are not available: ")
    assert f'install it with pip install "sacrebleu[{language}]"' in str(error.value)


@pytest.mark.parametrize(
    ("metric", "tokens", "seen"),
    [
        ("exact_match", TokenizerNames(), "The cat's größe, 猫だ."),
        ("chrf", TokenizerNames(), "Thecat'sgröße,猫だ."),
        ("bleu", TokenizerNames(), "The cat's größe , 猫だ ."),
        ("bleu", TokenizerNames(bleu="char"), "T h e c a t ' s g r ö ß e , 猫 だ ."),
        ("rouge_l", TokenizerNames(), "the cat s größe 猫 だ"),
        ("rouge_l", TokenizerNames(rouge_l="ascii"), "the cat s gr e"),
    ],
)
def test_a_text_is_shown_as_a_metric_compares_it(metric, tokens, seen):
    assert METRICS[metric].seen(" The cat's größe, 猫だ.\n", tokens) == seen


def test_a_task_file_chooses_tokens_and_a_table_states_them(tmp_path):
    rows = [{"question": f"{n}", "answer": "猫昨天坐在垫子上。"} for n in range(20)]
    both(tmp_path, rows)
    task, splits = loaded(task_file(tmp_path, QUESTIONS, response="{answer}"))
    with pytest.raises(UserError, match=r"my/questions: bleu gives the references 0.00 of 100 against themselves"):
        task.check_metrics(splits.reported)
    task.configured({"accept_unfair_metrics": True}).check_metrics(splits.reported)
    task, splits = loaded(task_file(tmp_path, QUESTIONS, response="{answer}", tokens={"bleu": "zh"}))
    task.check_metrics(splits.reported)
    assert task.describe(task.own_source).endswith("; BLEU on zh tokens, ROUGE-L on unicode words")
    assert task.score(
        task.predictions(splits.reported, ["猫昨天坐在垫子上。"] * len(splits.reported))
    ) == pytest.approx(dict.fromkeys(METRICS, 1.0))
    with pytest.raises(UserError, match="tokens"):
        task_of_file(task_file(tmp_path, QUESTIONS, tokens={"bleu": "klingon"}))


def test_short_answers_are_refused_before_a_run_and_not_by_reading_the_data(tmp_path):
    both(tmp_path, ASKED)
    task, splits = loaded(task_file(tmp_path, QUESTIONS))
    with pytest.raises(UserError, match="BLEU needs answers of four tokens or more"):
        task.check_metrics(splits.reported)
    task, splits = loaded(task_file(tmp_path, QUESTIONS, metrics=["exact_match", "chrf", "rouge_l"]))
    task.check_metrics(splits.reported)


@pytest.mark.parametrize("accepted", [False, True])
def test_a_run_refuses_such_a_metric_before_training(tmp_path, store, accepted):
    both(tmp_path, ASKED)
    path = task_file(tmp_path, QUESTIONS, options={"max_new_tokens": 4, "accept_unfair_metrics": accepted})
    overrides = Overrides(
        methods=("lora",),
        tasks=(str(path),),
        base_model=str(tiny_model_folder(tmp_path / "model", tiny_llama())),
        seeds=(1,),
        sets=("train.max_length=64",),
    )
    (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
    if accepted:
        assert DataCache().of(run).sizes["reported"]
    else:
        with pytest.raises(UserError, match=r"bleu gives the references 0.00 of 100 against themselves"):
            DataCache().of(run)
