"""Task files about images with text."""

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.from_yaml import defined_task, read_definition, task_of_file
from tests.support.pictures import encoded, picture
from tests.support.yaml_files import DATA, REFERENCE, loaded, png, task_file, unusable, write

WRITTEN = {
    "name": "my/shapes",
    "kind": "image_text",
    "reference": REFERENCE,
    "data": DATA,
    "prompt": "{question}",
    "response": " {answer}",
    "metrics": ["exact_match"],
}
RANKED = {**WRITTEN, "choices": "options", "label": "right", "metrics": ["accuracy"]}
del RANKED["response"]


def folder(root, ending=".csv"):
    (root / "pictures").mkdir(parents=True)
    rows = []
    for number in range(20):
        (root / "pictures" / f"{number}.png").write_bytes(encoded(picture(seed=number)))
        rows.append(
            {
                "image": f"pictures/{number}.png",
                "question": f"what is {number}?",
                "answer": f"shape {number}",
                "options": ["a", "b"],
                "right": number % 2,
            }
        )
    if ending == ".parquet":
        rows = [{**row, "image": png((number, 0, 0))} for number, row in enumerate(rows)]
    write(root / f"train{ending}", rows)
    write(root / f"test{ending}", rows[:8])
    return root


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_texts_about_images_are_a_yaml_kind(tmp_path, ending):
    task, splits = loaded(task_file(folder(tmp_path, ending), WRITTEN))
    assert splits.sizes == {"train": 18, "selection": 2, "reported": 8}
    assert task.kind == "image_text"
    assert task.prompt(splits.reported[3]) == "what is 3?"
    assert task.response(splits.reported[3]) == " shape 3"
    assert splits.reported["references"][3] == [" shape 3"]
    assert set(splits.reported.column_names) == {"question", "answer", "references", "image_1", "example", "subset"}


def test_choices_about_images_are_one_too(tmp_path):
    task, splits = loaded(task_file(folder(tmp_path, ".jsonl"), RANKED))
    assert splits.reported["label"][:] == [0, 1] * 4
    assert task.response(splits.reported[1]) == " b"
    assert task.options.layout == "model"
    chosen = task_file(folder(tmp_path / "other", ".jsonl"), RANKED, options={"layout": "plain", "image_size": 28})
    assert task_of_file(chosen).options.deciding() == {"layout": "plain", "image_size": 28}


def test_a_record_has_all_of_the_definition(tmp_path):
    path = task_file(folder(tmp_path), WRITTEN, options={"layout": "plain", "max_new_tokens": 3})
    definition = read_definition(path)
    assert definition["images"] == "image"
    assert defined_task(definition).options == task_of_file(path).options


@pytest.mark.parametrize(
    ("fields", "changes", "reason"),
    [
        (WRITTEN, {"response": None}, "needs either a response, which is written, or choices"),
        (WRITTEN, {"choices": "options"}, "needs either a response, which is written, or choices"),
        (WRITTEN, {"metrics": ["accuracy"]}, '"accuracy" is no metric of a task with a response'),
        (RANKED, {"metrics": ["bleu"]}, '"bleu" is no metric of a task with choices'),
        (RANKED, {"options": {"num_beams": 2}}, 'the option "num_beams" has no meaning for a task with choices'),
        (RANKED, {"references": "answer"}, "has references, which are of a response"),
        (WRITTEN, {"images": []}, "images"),
        (WRITTEN, {"images": ["image", "image"]}, "names a column of images twice"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(tmp_path, fields, changes, reason):
    changed = {name: value for name, value in {**fields, **changes}.items() if value is not None}
    with pytest.raises(UserError, match=reason):
        task_of_file(task_file(folder(tmp_path, ".jsonl"), changed))


def test_an_image_outside_the_folder_is_refused(tmp_path):
    root = folder(tmp_path / "task", ".jsonl")
    (tmp_path / "secret.png").write_bytes(encoded(picture()))
    write(root / "test.jsonl", [{"image": "../secret.png", "question": "?", "answer": "x"}])
    assert "names an image outside its folder" in unusable(task_file(root, WRITTEN))


def test_a_broken_image_is_named(tmp_path):
    root = folder(tmp_path, ".jsonl")
    (root / "pictures" / "2.png").write_bytes(b"GIF89a")
    assert '2.png") cannot be read as an image' in unusable(task_file(root, WRITTEN))
