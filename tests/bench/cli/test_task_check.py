import io
import json

import pandas as pd
import pytest
import yaml
from PIL import Image

from parbench.bench.store.store import Store
from parbench.tasks import find_task
from parbench.tasks.kinds.language_model import LanguageModelTask
from parbench.tasks.leaks import leaks
from parbench.tasks.testing.inspection import constant, perfect_scores, shown, task_to_check
from tests.support.data import sentences, write_jsonl
from tests.support.films import COMMON, FILMS, task_file

ASKED = {
    **COMMON,
    "kind": "text_generation",
    "prompt": "{question}\nAnswer:",
    "response": " {answer}",
    "metrics": ["exact_match", "rouge_l"],
}
RANKED = {**COMMON, "kind": "multiple_choice", "prompt": "{question}", "choices": "options"}


def of(path):
    task = task_to_check(str(path))
    return task, task.splits(task.own_source)


def test_a_registered_task(bench, tiny_data, tmp_path):
    result = bench("task", "check", "glue/sst2", "--data-root", tiny_data, "--out", tmp_path / "store")
    assert result.code == 0, result.err
    assert "data: local folder glue-sst2, sha256:" in result.out
    [sizes] = [line.split() for line in result.out.splitlines() if line.split()[:1] == ["all"]]
    assert sizes == ["all", "144", "16", "60"]
    assert "leaks: 0 of 60" in result.out
    assert not (tmp_path / "store").exists()


def test_a_file_as_a_model_sees_it(bench, tiny_model, tmp_path):
    rows = sentences(40, seed=0)
    rows[0]["sentence"] = "[red]good[/red] film\n\x1b[31m"
    # Two of the four reported examples are in the training split, of which one is so but for its label.
    reported = [*sentences(2, seed=5), rows[3], {**rows[4], "label": 1 - int(rows[4]["label"])}]
    path = task_file(tmp_path, {**FILMS, "metrics": ["accuracy", "f1"]}, rows, reported)
    result = bench("task", "check", path, "--model", tiny_model, "--max-length", 6, "--out", tmp_path / "store")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "my/films: Films (own data 2026)"
    assert r'  sentence: "[red]good[/red] film\n\u001b[31m"' in lines
    assert '  label: "negative"' in lines
    assert "  6 tokens: '[CLS]' '[UNK]' '[UNK]' '[UNK]' 'good' '[SEP]'" in lines
    assert any(line.startswith("longer than 6 tokens, and so truncated: ") for line in lines)
    assert any(line.startswith("leaks: 2 of 4 reported examples (50.0%) are in train or selection") for line in lines)
    assert "the references against themselves: accuracy 100.0, f1 100.0" in lines
    [message] = [line for line in lines if line.startswith("a constant prediction")]
    assert "(negative always, as is most frequent in train)" in message
    assert message.endswith("f1 0.0; accuracy ranks")


def test_texts_that_are_longer_than_the_model_takes_are_truncated(bench, tiny_model, tmp_path):
    path = task_file(tmp_path, FILMS, [{"sentence": "good " * 100, "label": n % 2} for n in range(20)])
    result = bench("task", "check", path, "--model", tiny_model, "--max-length", 64, "--out", tmp_path / "store")
    assert "longer than 64 tokens, and so truncated: 100.0% of train" in result.out


def test_the_share_that_is_truncated_counts_the_whole_examples(bench, tiny_model, tmp_path):
    rows = [{"sentence": " ".join(["film"] * length), "label": length % 2} for length in range(1, 21)]
    path = task_file(tmp_path, FILMS, rows, rows)
    result = bench("task", "check", path, "--model", tiny_model, "--max-length", 12, "--out", tmp_path / "store")
    # [CLS] and [SEP] are tokens as well: what has 11 words and more is too long.
    assert "50.0% of reported" in result.out


def test_a_constant_prediction_of_each_kind(tmp_path):
    rows = [{"sentence": f"film {n}", "label": int(n < 30)} for n in range(40)]
    message, scores = vars(constant(*of(task_file(tmp_path / "a", FILMS, rows, rows)))).values()
    assert (message, scores) == ("positive always, as is most frequent in train", {"accuracy": 0.75})
    numbers = {**COMMON, "kind": "regression", "texts": ["sentence"]}
    message, scores = vars(constant(*of(task_file(tmp_path / "b", numbers, rows)))).values()
    assert message.endswith("always, as is the mean in train")
    assert scores == {"pearson": 0.0, "spearman": 0.0}
    asked = [{"question": f"q {n}", "answer": "a b"} for n in range(20)]
    message, scores = vars(constant(*of(task_file(tmp_path / "c", ASKED, asked)))).values()
    assert (message, scores) == ('"a b" always, as is most frequent in train', {"exact_match": 1.0, "rouge_l": 1.0})
    ranked = [{"question": f"q {n}", "options": ["x", "yy"], "label": int(n >= 15)} for n in range(20)]
    message, scores = vars(constant(*of(task_file(tmp_path / "d", RANKED, ranked, ranked)))).values()
    assert (message, scores) == ("the first choice", {"accuracy": 0.75, "acc_norm": 0.75})


def test_what_a_language_model_is_shown(bench, tmp_path):
    asked = [{"question": f"what is {n % 15}", "answer": "a\tb"} for n in range(20)]
    path = task_file(tmp_path, ASKED, asked, [{"question": "what is 3", "answer": "new"}, *asked[:1], asked[-1]])
    task, splits = of(path)
    assert shown(task, splits.train[0]) == {
        "prompt": r'"what is 0\nAnswer:"',
        "response": r'" a\tb"',
        "references": r'[" a\tb"]',
        "first reference to exact_match": r'"a\tb"',
        "first reference to rouge_l": '"a b"',
    }
    assert leaks(task, splits).reported == 3
    ranked = [{"question": f"q {n}", "options": ["x", "yy"], "label": 1} for n in range(20)]
    task, splits = of(
        task_file(tmp_path / "d", RANKED, ranked, [{"question": "q 1", "options": ["x", "z"], "label": 0}])
    )
    assert shown(task, splits.train[0])["choices"] == '["x", "yy"]'
    # The same question with other choices is another one.
    assert leaks(task, splits).reported == 0


def test_images_are_shown_by_size_and_compared_by_their_bytes(bench, tmp_path):
    def png(number):
        file = io.BytesIO()
        Image.new("RGB", (5, 4), (number, 0, 0)).save(file, "PNG")
        return file.getvalue()

    rows = [{"image": png(number), "label": ("cat", "dog")[number % 2]} for number in range(40)]
    pd.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    for name in ("cat", "dog"):
        (tmp_path / "test" / name).mkdir(parents=True)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(png(4))
    (tmp_path / "test" / "dog" / "1.png").write_bytes(png(99))
    fields = {**COMMON, "kind": "image_classification", "labels": ["cat", "dog"]}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(fields))
    result = bench("task", "check", tmp_path / "task.yaml", "--model", "vit-s-14", "--out", tmp_path / "store")
    assert result.code == 0, result.err
    assert "image: PNG of 5 x 4 pixels, RGB" in result.out
    assert "my/films reads images" in result.out
    assert "leaks: 1 of 2" in result.out
    assert "accuracy 50.0" in result.out


def test_a_constant_that_is_not_known_is_not_invented(tmp_path):
    task, splits = of(task_file(tmp_path, ASKED, [{"question": f"q {n}", "answer": "a"} for n in range(20)]))

    class Other(LanguageModelTask):
        name, head, primary = "other", task.head, "x"
        check = collate = loss = predict = prepare = prompt = response = score = None

    assert constant(Other(), splits) is None


@pytest.mark.parametrize(
    ("fields", "rows", "message"),
    [
        (FILMS, [], "the train split of my/films is empty"),
        (FILMS, [{"sentence": "a"}], "no column label"),
        (FILMS, [{"sentence": "a", "label": "neutral"}], "unknown label 'neutral' in row 1"),
        ({**ASKED, "prompt": "{topic}"}, [{"question": "a", "answer": "b"}], "no column topic"),
        ({**ASKED, "prompt": "{question.__class__}"}, [], "only a plain column name"),
        ([FILMS], [], "holds a list"),
        ({**FILMS, "data": {"train": "train", "reported": "gone"}}, sentences(20, 0), "no gone file"),
        (FILMS, sentences(3, 0), "too small to cut"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_code_2(bench, tmp_path, fields, rows, message):
    result = bench("task", "check", task_file(tmp_path, fields, rows), "--out", tmp_path / "store")
    assert result.code == 2
    assert message in result.err
    assert result.err.startswith("bench: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glue/sst3"], 'there is no task called "glue/sst3"'),
        (["fgvc"], '"fgvc" is a group of tasks; name one of them: fgvc/cub200, fgvc/nabirds,'),
        (["gone.yaml"], 'there is no task file "gone.yaml"'),
        ([f"{'long' * 200}.yaml"], "cannot be read (File name too long)"),
        (["glue/sst2", "--max-length", 5], "--max-length counts a base model's tokens"),
        (["glue/sst2", "--examples", 0], "--examples is 0"),
        (["glue/sst2", "--data-root", "gone"], 'the data root "gone" is not a folder'),
        (["glue/cola", "--data-root", "."], "the task glue/cola has no data"),
    ],
)
def test_wrong_arguments(bench, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = bench("task", "check", *arguments)
    assert (result.code, message in result.err) == (2, True), result.err
    assert not list(tmp_path.iterdir())


def test_a_comparison_on_a_task_of_a_file(bench, bench_run, tmp_path):
    rows = [{"sentence": " ", "label": 1}, *sentences(60, 0)]
    path = task_file(tmp_path / "mine", FILMS, rows, sentences(20, 1))
    common = ["--suite", "mini", "--methods", "lora", "--seeds", 1, "--set", "train.max_steps=4"]
    common += ["--set", "train.max_length=32", "--out", tmp_path / "store"]
    result = bench("run", "--tasks", path, "--model", "bert-tiny", *common, "--dry-run")
    assert result.code == 0, result.err
    assert "my/films" in result.out
    result = bench_run("--tasks", path, "--data-root", tmp_path / "mine", methods="lora")
    assert result.code == 0, result.err
    [record] = Store(tmp_path / "store").scan()
    assert record.status == "ok", record.reason
    assert str(tmp_path) not in json.dumps(record.spec.definition)
    # What is suspicious about its data is in the record.
    assert any("have an empty text in column sentence" in note for note in record.provenance.notes)
    # It is scored again without the file.
    path.unlink()
    task = find_task(record.spec.task, record.spec.definition)
    rows = pd.read_parquet(Store(tmp_path / "store").runs / record.run_id / "predictions.parquet")
    assert task.score(rows) == record.metrics


def test_reported_examples_are_shown_with_their_references(bench, tmp_path):
    rows = [{"question": f"what is {n}", "answer": f"a {n}"} for n in range(20)]
    result = bench("task", "check", task_file(tmp_path, ASKED, rows), "--out", tmp_path / "store")
    assert result.code == 0, result.err
    reported = result.out.split("examples of the reported split:")[1]
    assert '  prompt: "what is 0\\nAnswer:"\n  response: " a 0"\n  references: [" a 0"]\n' in reported
    assert '  first reference to exact_match: "a 0"\n  first reference to rouge_l: "a 0"\n' in reported
    assert "the references against themselves: exact_match 100.0, rouge_l 100.0\n" in result.out


@pytest.mark.parametrize(
    ("fields", "rows", "expected"),
    [
        (FILMS, [{"sentence": f"film {n}", "label": n % 2} for n in range(20)], {"accuracy": 1.0}),
        (
            {**COMMON, "kind": "regression", "texts": ["sentence"]},
            [{"sentence": f"film {n}", "label": n / 4} for n in range(20)],
            {"pearson": 1.0, "spearman": 1.0},
        ),
        (
            RANKED,
            # The right choice is much longer, or much shorter, than the other.
            [{"question": f"q {n}", "options": ["x", "y" * 500], "label": n % 2} for n in range(20)],
            {"accuracy": 1.0, "acc_norm": 1.0},
        ),
    ],
)
def test_the_references_have_full_marks(tmp_path, fields, rows, expected):
    assert perfect_scores(*of(task_file(tmp_path, fields, rows))) == pytest.approx(expected)


def test_many_classes_are_summarised(bench, tmp_path):
    labels = [f"c{n}" for n in range(57)]
    rows = [{"sentence": f"film {n}", "label": f"c{n % 57}"} for n in range(57 * 20 + 1)]
    path = task_file(tmp_path, {**FILMS, "labels": labels}, rows, rows)
    result = bench("task", "check", path, "--out", tmp_path / "store")
    assert result.code == 0, result.err
    counts = [line.split() for line in result.out.splitlines() if " of 57 classes" in line]
    assert counts == [
        ["smallest", "of", "57", "classes", "18", "2", "20"],
        ["median", "of", "57", "classes", "18", "2", "20"],
        ["largest", "of", "57", "classes", "19", "2", "21"],
    ]
    assert "c31" not in result.out.split("examples of the train split")[0]


def test_classes_that_no_model_can_learn_and_empty_texts_are_warned_of(bench, tmp_path):
    labels = ["negative", "positive", "mixed", "none"]
    rows = [{"sentence": f"film {n}" if n else "  ", "label": n % 2} for n in range(40)]
    reported = [{"sentence": "a", "label": "mixed"}, {"sentence": "", "label": 0}, {"sentence": "b", "label": "mixed"}]
    path = task_file(tmp_path, {**FILMS, "labels": labels}, rows, reported)
    result = bench("task", "check", path, "--out", tmp_path / "store")
    assert result.code == 0, result.err
    warned = [line for line in result.out.splitlines() if line.startswith("warning: ")]
    assert warned[0] == (
        'warning: the class "mixed" is in the reported split (2 of 3 examples) and not in train: no model can learn '
        "what is scored there"
    )
    assert warned[1] == 'warning: the class "none" is named as a label, and train has no example of it'
    assert "1 of 3 reported examples have an empty text in column sentence (the first is test:1)" in warned[-1]
    assert len(warned) == 4


def test_examples_that_are_nearly_the_same_are_leaks_of_their_own(tmp_path):
    rows = [{"sentence": f"The film number {n}", "label": n % 2} for n in range(39)]
    rows.append({"sentence": "THE film number  3 ", "label": 1})
    reported = [{"sentence": text, "label": 0} for text in ("The film number 5", "the FILM number\n7", "new")]
    found = leaks(*of(task_file(tmp_path, FILMS, rows, reported)))
    assert (found.reported, found.similar) == (1, 1)
    data = {**COMMON["data"], "selection": "dev"}
    write_jsonl(tmp_path / "dev.jsonl", [{"sentence": "the film number 9", "label": 0}, {"sentence": "z", "label": 1}])
    found = leaks(*of(task_file(tmp_path, {**FILMS, "data": data}, rows, reported)))
    assert found.selection == 1


def test_hidden_files_among_images_are_counted(bench, tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name / ".cache").mkdir(parents=True)
            for number in range(10):
                file = io.BytesIO()
                Image.new("RGB", (5, 4), (number, 0, 0)).save(file, "PNG")
                (tmp_path / split / name / f"{number}.png").write_bytes(file.getvalue())
            (tmp_path / split / name / ".cache" / "0.png").write_bytes(b"junk")
    fields = {**COMMON, "kind": "image_classification"}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(fields))
    result = bench("task", "check", tmp_path / "task.yaml", "--out", tmp_path / "store")
    assert result.code == 0, result.err
    assert "ignored: 4 hidden files" in result.out
    assert ["all", "18", "2", "20"] in [line.split() for line in result.out.splitlines()]
