import csv
import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest

from parbench.tasks.metrics import captioning, ngrams
from parbench.tasks.metrics.generation import (
    METRICS,
    corpus_scores,
    example_statistics,
    leave_one_out,
    unavailable,
)
from tests.support.nlg import NO_JAVA, OUTPUTS, PRINTED, REFERENCES, TGEN, needs_java

# What a model may say that would move the lines between the programs, were it not taken out.
ODD = ["", "...", "a\nb|||c \u2028 \x85 \r\n d \udcff"]


@pytest.fixture(scope="session")
def official(real_data):
    """The folder of outputs with the scores of the official scorer."""
    return real_data / "e2e-nlg" / "metrics-check"


@pytest.fixture(scope="session")
def ten(official):
    """Ten outputs with their references: the example that comes with the official scorer."""
    outputs = (official / "example-baseline-output.txt").read_text("utf-8").strip().split("\n")
    blocks = (official / "example-devel-conc.txt").read_text("utf-8").strip().split("\n\n")
    return outputs, [block.split("\n") for block in blocks]


@pytest.fixture(scope="session")
def tgen(official):
    """The baseline's outputs for all 630 meanings of the test set, with their references."""

    def read(name):
        with gzip.open(official / name, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    references = {row["mr"]: row["refs"] for row in read("test_references.jsonl.gz")}
    rows = read("system_outputs_tgen.jsonl.gz")
    return [row["output"] for row in rows], [references[row["mr"]] for row in rows]


@pytest.fixture(scope="session")
def small_table():
    """Starting METEOR takes seconds: one table serves many tests. Its last row is its first."""
    return example_statistics([*OUTPUTS, *ODD, OUTPUTS[0]], [*REFERENCES, *[REFERENCES[0]] * 4])


def printed_scores(official, system):
    with (official / "expected_scores.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["system"].startswith(system)]
    return {name: float(row[name.upper() if name != "cider" else "CIDEr"]) for name in METRICS}


# -- against the official scorer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "texts"), [("example-inputs", "ten"), ("tgen", "tgen")])
def test_bleu_and_nist_are_the_official_ones(official, system, texts, request):
    expected = printed_scores(official, system)
    found = corpus_scores(example_statistics(*request.getfixturevalue(texts), metrics=NO_JAVA))
    assert found == pytest.approx({name: expected[name] for name in NO_JAVA}, abs=PRINTED)


# Those of the baseline by Java are compared in tests/tasks/test_e2e_texts.py, on the rows of the task.
def test_the_published_scores_of_the_baseline_are_the_official_ones(official):
    assert printed_scores(official, "tgen") == TGEN


@pytest.mark.slow
@needs_java
def test_all_scores_of_the_ten_examples_are_the_official_ones(official, ten):
    assert corpus_scores(example_statistics(*ten)) == pytest.approx(printed_scores(official, "example"), abs=PRINTED)


def test_nist_and_bleu_of_single_segments_are_the_official_ones(official, tgen):
    # There each segment is a corpus of its own, and its references' lengths make no difference between the versions of
    # NIST. BLEU is smoothed otherwise where an n-gram length has no match.
    segments = pd.read_csv(official / "tgen_segment_scores.tsv.gz", sep="\t", quoting=csv.QUOTE_NONE)
    compared = 0
    for output, references, expected in list(zip(*tgen, segments.to_dict("records"), strict=True))[::7]:
        table = example_statistics([output], [references], NO_JAVA)
        found = corpus_scores(table)
        assert found["nist"] == pytest.approx(expected["NIST"], abs=PRINTED)
        if all(table["bleu_statistics"][0][2:6]):
            assert found["bleu"] == pytest.approx(expected["BLEU"], abs=PRINTED)
            compared += 1
    assert compared > 50


@pytest.mark.slow
@needs_java
def test_meteor_of_a_corpus_is_the_programs_own(small_table):
    # The jar sums up the lines it is given; it is asked for corpora with and without perfect matches.
    draw = np.random.default_rng(0)
    made = np.array(small_table["meteor_statistics"].tolist())
    # Matches of all four kinds, as many as the numbers of words allow.
    invented = np.hstack(
        [
            draw.integers(30, 40, (20, 2)),
            draw.integers(10, 15, (20, 2)),
            draw.integers(0, 4, (20, 16)),
            draw.integers(2, 9, (20, 1)),
            draw.integers(16, 30, (20, 2)),
        ]
    )
    rows = np.vstack([made, invented])
    as_printed = rows.copy()
    as_printed[(rows[:, 20] == 0) & (rows[:, 21] > 0), 20] = 1
    corpora = [np.arange(len(rows)), *(draw.choice(len(rows), size=size) for size in (1, 2, 3, 10, 100) for _ in "abc")]
    lines = ["EVAL ||| " + " ||| ".join(" ".join(map(str, row)) for row in as_printed[corpus]) for corpus in corpora]
    answers = captioning._meteor(lines)
    ends = np.cumsum([len(corpus) + 1 for corpus in corpora]) - 1
    assert len(answers) == ends[-1] + 1
    expected = [float(answers[end]) for end in ends]
    found = captioning.meteor(np.stack([rows[corpus].sum(axis=0) for corpus in corpora]), 0)
    assert (as_printed != rows).any()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_nist_by_hand():
    # "a" is 2 of 4 tokens: 1 bit. "b" and "c" are 1 of 4: 2 bits. "a b" is 1 of 2 that begin with "a": 1 bit.
    table = example_statistics(["a b", "a d"], [["a b"], ["a c"]], ["nist"])
    assert table["nist_statistics"].tolist() == [
        [3, 1, 0, 0, 0, 2, 1, 0, 0, 0, 2, 1],
        [1, 0, 0, 0, 0, 2, 1, 0, 0, 0, 2, 1],
    ]
    assert corpus_scores(table)["nist"] == pytest.approx(4 / 4 + 1 / 2)


def test_an_output_of_two_thirds_of_the_length_has_half_the_nist():
    half = corpus_scores(example_statistics(["a b"], [["a b c"]], ["nist"]))["nist"]
    # All three are 1 of 3 tokens; "b" always follows "a".
    assert half == pytest.approx((2 * math.log2(3) / 2 + 0) / 2)


def test_nist_takes_the_pooled_length_of_the_references():
    # 2 and 4 references' tokens, 1 and 3 references: 14 tokens / 2 references an example, not 2 + 4.
    rows = np.array([[6, 0, 0, 0, 0, 6, 0, 0, 0, 0, 14, 4]], dtype=float)
    penalty = math.exp(-math.log(2) * (math.log(6 / 7) / math.log(1.5)) ** 2)
    assert ngrams.nist(rows, 2) == pytest.approx([penalty])


def test_case_and_punctuation_are_as_in_mteval():
    assert " ".join(ngrams.tokens("The CAFÉ, £20-25 (5.5 stars).")) == "the café , £20 - 25 ( 5.5 stars ) ."


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_table_read_from_a_file_scores_without_java(small_table, tmp_path, monkeypatch):
    small_table.to_parquet(tmp_path / "rows.parquet")
    monkeypatch.setenv("PATH", str(tmp_path))
    read = pd.read_parquet(tmp_path / "rows.parquet")
    assert set(corpus_scores(read)) >= set(NO_JAVA)
    assert corpus_scores(read) == corpus_scores(small_table)
    for name in corpus_scores(read):
        np.testing.assert_array_equal(leave_one_out(read, name), leave_one_out(small_table, name))


@pytest.mark.parametrize("name", METRICS)
def test_leaving_one_out_is_scoring_the_others(small_table, name):
    if METRICS[name].column not in small_table:
        pytest.skip(unavailable()[name])
    # The weights of NIST and CIDEr are those of all the examples here as there.
    expected = [corpus_scores(small_table.drop(index=row))[name] for row in range(len(small_table))]
    np.testing.assert_allclose(leave_one_out(small_table, name), expected, rtol=1e-12)
    assert len(set(expected)) > 1


def test_leaving_one_out_of_bleu_is_sacrebleu_on_the_others(ten):
    from sacrebleu.metrics.bleu import BLEU

    outputs, references = ten
    found = leave_one_out(example_statistics(outputs, references, ["bleu"]), "bleu")
    for left in range(10):
        texts = [text for number, text in enumerate(outputs) if number != left]
        kept = [text for number, text in enumerate(references) if number != left]
        most = max(map(len, kept))
        padded = [[one[position] if position < len(one) else None for one in kept] for position in range(most)]
        expected = BLEU(lowercase=True).corpus_score(texts, padded).score / 100
        assert found[left] == pytest.approx(expected, rel=1e-12)


@needs_java
def test_leaving_one_out_of_rouge_is_making_the_table_of_the_others(ten):
    # It has no weights of the whole corpus, so that a table of the others must say the same.
    found = leave_one_out(example_statistics(*ten, ["rouge_l"]), "rouge_l")
    others = example_statistics(*(texts[1:] for texts in ten), ["rouge_l"])
    assert found[0] == pytest.approx(corpus_scores(others)["rouge_l"], rel=1e-12)


@needs_java
def test_a_perfect_output_has_the_best_score(small_table):
    perfect = corpus_scores(small_table.iloc[[2]])
    assert (perfect["bleu"], perfect["meteor"], perfect["rouge_l"]) == pytest.approx((1, 1, 1))
    assert perfect["cider"] == pytest.approx(10)


@needs_java
def test_an_empty_output_scores_nothing_and_moves_no_other(small_table):
    empty, dots, odd, last = (small_table.iloc[[row]] for row in range(len(OUTPUTS), len(small_table)))
    assert [corpus_scores(empty)[name] for name in METRICS] == [0, 0, 0, 0, 0]
    assert [corpus_scores(dots)[name] for name in ("meteor", "rouge_l", "cider")] == [0, 0, 0]
    assert all(0 <= score < 0.5 for score in corpus_scores(odd).values())
    assert corpus_scores(last) == corpus_scores(small_table.iloc[[0]])
    assert min(corpus_scores(last).values()) > 0


@pytest.mark.filterwarnings("error")
def test_empty_outputs_only_are_worth_nothing():
    assert corpus_scores(example_statistics(["", " "], REFERENCES[:2], NO_JAVA)) == {"bleu": 0, "nist": 0}


@needs_java
def test_the_locale_makes_no_difference(monkeypatch):
    before = captioning.ptb_tokenized(["The Café asks £20.", "", "It's fine"])
    assert before == ["the café asks # 20", "", "it 's fine"]
    monkeypatch.setenv("LC_ALL", "C")
    assert captioning.ptb_tokenized(["The Café asks £20.", "", "It's fine"]) == before
