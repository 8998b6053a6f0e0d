"""CIDEr and BLEU-4 of captions, against pycocoevalcap's own computation."""

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.data.location import DataLocation
from parbench.tasks.metrics import captioning, generation, java
from parbench.tasks.vl.captions import COCO_CAPTION
from tests.support import vl_files

HYPOTHESES = ["a small cat sits on a mat", "there is a dog", "a cat", "cats on mats on cats on mats"]
REFERENCES = [
    ["a cat sits on the mat", "a small cat is on a mat", "the cat lies there"],
    ["there is a big dog", "a dog stands in the street"],
    ["a black cat on a sofa", "a cat"],
    ["some cats sit on mats", "several cats on several mats"],
]


def test_bleu_of_sums_is_the_packages():
    from pycocoevalcap.bleu.bleu import Bleu

    given = dict(enumerate(REFERENCES))
    score, _ = Bleu(4).compute_score(given, {n: [text] for n, text in enumerate(HYPOTHESES)}, verbose=0)
    import numpy as np

    sums = np.array(captioning.bleu_statistics(HYPOTHESES, REFERENCES)).sum(axis=0, keepdims=True)
    assert captioning.bleu(sums, 4)[0] == pytest.approx(score[3], rel=1e-12)
    assert captioning.bleu(np.zeros((1, 10)), 0)[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.skipif(java.missing() is not None, reason="needs Java")
def test_captions_are_scored_as_by_the_caption_evaluation(tmp_path):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    vl_files.coco(tmp_path)
    splits = COCO_CAPTION.splits(DataLocation("hub", "", str(tmp_path)).source(COCO_CAPTION))
    assert splits.reported["references"][0] == [
        "A cat number 10 sits on a mat.",
        "There is a small cat 10, on some mat!",
    ]
    assert splits.train["references"][1] == ["There is a small cat 0, on some mat!"]
    frame = COCO_CAPTION.predictions(splits.reported, ["A cat sits on a mat.", "A small dog!"])
    scores = COCO_CAPTION.score(frame)
    written = {0: ["a cat sits on a mat"], 1: ["a small dog"]}
    wanted = {n: [f"a cat number {10 + n} sits on a mat", f"there is a small cat {10 + n} on some mat"] for n in (0, 1)}
    assert scores["cider"] == pytest.approx(Cider().compute_score(wanted, written)[0])
    assert scores["bleu_4"] == pytest.approx(Bleu(4).compute_score(wanted, written, verbose=0)[0][3])
    rest = COCO_CAPTION.leave_one_out(frame, "bleu_4")
    assert rest == pytest.approx(
        [generation.corpus_scores(frame.drop(index=row))["bleu_4"] for row in range(len(frame))]
    )
    perfect = COCO_CAPTION.reference_scores(splits.reported)
    assert perfect["bleu_4"] == pytest.approx(1.0)


def test_without_java_captions_are_refused_before_a_run(monkeypatch):
    monkeypatch.setattr(java, "missing", lambda: "there is no java on the PATH; install a Java runtime")
    with pytest.raises(UserError, match=r"vl/coco_caption is scored by CIDEr and BLEU-4 .* install a Java runtime"):
        COCO_CAPTION.check_metrics(None)
