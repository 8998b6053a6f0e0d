"""Metrics of texts where Java is missing, hangs or fails, and where there is nothing to score."""

import os
import time

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.metrics import captioning, java
from parbench.tasks.metrics.generation import (
    corpus_scores,
    example_statistics,
    leave_one_out,
    left_out,
    unavailable,
)
from tests.support.nlg import OUTPUTS, REFERENCES, needs_java


def test_without_java_the_others_are_given(tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap.rouge.rouge")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(unavailable()) == {"meteor", "rouge_l", "cider"}
    assert left_out() == (
        "left out: METEOR, ROUGE-L, CIDEr, because there is no java on the PATH; install a Java runtime"
    )
    assert set(corpus_scores(example_statistics(OUTPUTS, REFERENCES))) == {"bleu", "nist"}
    with pytest.raises(UserError, match="METEOR cannot be computed here: there is no java on the PATH"):
        example_statistics(OUTPUTS, REFERENCES, ["bleu", "meteor"])
    with pytest.raises(UserError, match=r"stanford-corenlp-3.4.1.jar cannot be run: there is no java"):
        captioning.ptb_tokenized(OUTPUTS)


@needs_java
def test_nothing_is_left_out_where_all_is_there():
    assert unavailable() == {}
    assert left_out() is None


def replace_java(folder, monkeypatch, script):
    """Put a shell script in the place of Java."""
    pytest.importorskip("pycocoevalcap.rouge.rouge")
    (folder / "java").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_java_that_hangs_is_ended_with_all_it_has_started(tmp_path, monkeypatch):
    # The pipes are held by a child of the launcher as well.
    replace_java(tmp_path, monkeypatch, f"sleep 600 &\necho $! > {tmp_path}/child\nwait")
    monkeypatch.setattr(java, "START_SECONDS", 1.0)
    monkeypatch.setattr(java, "LINE_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"stanford-corenlp-3.4.1.jar gave no answer within 1 seconds; check "):
        captioning.ptb_tokenized(OUTPUTS)
    child = int((tmp_path / "child").read_text())
    assert ended(child)


def ended(process):
    """Return whether a process is gone, or dead and not yet collected by its new parent; wait a little for it."""
    for _ in range(100):
        try:
            with open(f"/proc/{process}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo no memory >&2; exit 3", r"failed with exit code 3; .*\(its output: no memory\)"),
        ("echo Error in VM; exit 1", r"failed with exit code 1; .*\(its output: Error in VM\)"),
        ("cat > /dev/null; echo one line", "gave 1 lines for 4 texts"),
    ],
)
def test_a_java_that_fails_is_a_sentence(tmp_path, monkeypatch, script, complaint):
    replace_java(tmp_path, monkeypatch, script)
    with pytest.raises(UserError, match=complaint):
        captioning.ptb_tokenized(OUTPUTS)


def test_a_meteor_that_gives_no_numbers_is_a_sentence(tmp_path, monkeypatch):
    replace_java(tmp_path, monkeypatch, "cat")
    with pytest.raises(UserError, match=r"meteor-1.5.jar did not answer with numbers"):
        captioning.meteor_statistics(OUTPUTS, REFERENCES)


@pytest.mark.parametrize(
    ("outputs", "references", "metrics", "complaint"),
    [
        ([], [], None, "there are 0 texts to score"),
        (["a"], [["a"], ["b"]], None, "1 texts to score and references for 2"),
        (["a", "b"], [["a"], []], None, "example 2 has no reference"),
        (["a", "b"], [["a", " "], ["b"]], None, "example 1 has no reference, or a blank one"),
        (["a"], ["a"], None, "give a list of texts for each example"),
        (["a"], [["a"]], ["blue"], 'no metric of texts "blue"; did you mean "bleu"'),
    ],
)
def test_what_cannot_be_scored_is_a_sentence(outputs, references, metrics, complaint):
    with pytest.raises(UserError, match=complaint):
        example_statistics(outputs, references, metrics)


def test_tables_without_what_is_asked_for_are_refused():
    table = example_statistics(OUTPUTS, REFERENCES, ["bleu"])
    with pytest.raises(UserError, match="the rows hold no statistics of METEOR"):
        leave_one_out(table, "meteor")
    with pytest.raises(UserError, match="takes two examples, not 1"):
        leave_one_out(table.iloc[:1], "bleu")
    for nothing in (table.iloc[:0], table[[]]):
        with pytest.raises(UserError, match="nothing to score"):
            corpus_scores(nothing)
