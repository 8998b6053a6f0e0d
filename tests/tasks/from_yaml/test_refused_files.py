"""What a task file may not say."""

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.from_yaml import task_of_file
from parbench.tasks.kinds.text_generation import Template
from tests.support.yaml_files import (
    DATA,
    IMAGES,
    QUESTIONS,
    REVIEWS,
    TEXTS,
    both,
    loaded,
    png,
    task_file,
)


def refused(path):
    with pytest.raises(UserError) as error:
        task_of_file(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list"),
        ("", "holds nothing"),
        ("just words", "holds a str"),
        ("a: !!python/object/apply:os.system ['true']", "not plain YAML"),
        ("a: !!python/name:os.system", "not plain YAML"),
        ("a: &x [1]\nb: *x\n", "aliases (*name) are not allowed (line 2)"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),
        ("a: {<<: &x {b: 1}, c: 2}\nd: {<<: *x}", "aliases"),
        ("name: a\nname: b\n", '"name" is given twice'),
        (
            'name: a\nprompt: "\\uD83D {question}"\n',
            r"half a character (\ud83d); write the whole character (line 2)",
        ),
        ("a: 1\n--- \nb: 2\n", "not plain YAML"),
        ("a: [1, 2\n", "not plain YAML"),
        ("a: \x07\n", "not plain YAML"),
        ("a: 2026-99-99\n", "not plain YAML"),
        ("3: a\n", "the field 3"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "x" * 300_000, "bytes"),
        ("name: a", "needs a kind"),
        ("name: a\nkind: 3", "there is no kind 3"),
    ],
)
def test_what_is_not_a_task_file(tmp_path, text, message):
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    assert message in refused(path)


def test_a_file_that_is_not_there_or_not_utf_8(tmp_path):
    assert "there is no task file" in refused(tmp_path / "task.yaml")
    (tmp_path / "task.yaml").write_bytes("name: café".encode("latin-1"))
    assert "not in UTF-8" in refused(tmp_path / "task.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "classificaton"}, 'did you mean "classification"'),
        ({"metric": ["accuracy"]}, 'there is no field "metric"; did you mean "metrics"'),
        ({"reference": None}, "reference"),
        ({"data": {"train": "train"}}, 'field "data.reported": field required'),
        ({"data": None}, "data"),
        ({"name": "glue/sst2"}, "which a task of parbench has"),
        ({"name": "glue"}, "which a task of parbench has"),
        ({"name": "../x"}, 'field "name"'),
        ({"name": "a/b/c"}, 'field "name"'),
        ({"name": "a b"}, 'field "name"'),
        ({"name": "a.yaml"}, "must not end like a file's"),
        ({"data": {**DATA, "folder": "../other"}}, "must not leave its folder"),
        ({"data": {**DATA, "folder": "a/../../b"}}, "must not leave its folder"),
        ({"data": {**DATA, "train": "../train"}}, "must not leave its folder"),
        ({"data": {**DATA, "train": "/etc/passwd"}}, "must be a relative path"),
        ({"data": {**DATA, "train": "..\\train"}}, "must be a relative path"),
        ({"data": {"train": "all", "reported": "all"}}, 'the split "all" is named twice'),
        ({"data": {**DATA, "hub": {"repository": "a/b", "revision": "main"}}}, "data.hub.revision"),
        ({"labels": [False, True]}, 'field "labels.0'),
        ({"labels": ["a", "a"]}, "different from each other"),
        ({"labels": ["a"]}, 'field "labels"'),
        ({"labels": ["a", "b", "c"]}, "f1 is of two classes"),
        ({"texts": ["a", "b", "c"]}, 'field "texts"'),
        ({"metrics": ["rouge_l"]}, 'field "metrics.0"'),
        ({"metrics": []}, 'field "metrics"'),
    ],
)
def test_what_a_file_may_not_say(tmp_path, changes, message):
    assert message in refused(task_file(tmp_path, TEXTS, **changes))


@pytest.mark.parametrize(
    "template", ["{q.__class__}", "{q[0]}", "{q!r}", "{q:>99}", "{}", "{0}", "{q", "q}", "{q{a}}", "{q:{a}}"]
)
def test_a_template_has_nothing_but_columns(tmp_path, template):
    with pytest.raises(UserError, match="template"):
        Template(template)
    assert "template" in refused(task_file(tmp_path, QUESTIONS, prompt=template))


def test_a_template_shows_what_is_in_the_columns_and_no_more():
    template = Template("{{{a b}}} {a b}{c}")
    assert template.columns == ("a b", "c")
    assert template.filled({"a b": "{c}", "c": 3, "d": 1}) == "{{c}} {c}3"


def test_a_link_does_not_lead_out_of_the_folder(tmp_path):
    outside = both(tmp_path / "outside", REVIEWS)
    home = tmp_path / "home"
    home.mkdir()
    (home / "data").symlink_to(outside)
    path = task_file(home, TEXTS, data={**DATA, "folder": "data"})
    assert "leads by a link" in refused(path)
    assert loaded(task_file(home, TEXTS, data={**DATA, "folder": str(outside)}))[1].sizes["reported"] == 8


def test_a_link_among_images_does_not_either(tmp_path):
    (tmp_path / "secret.png").write_bytes(png("red"))
    home = tmp_path / "home"
    for split in ("train", "test"):
        (home / split / "cat").mkdir(parents=True)
    (home / "test" / "cat" / "1.png").symlink_to(tmp_path / "secret.png")
    assert 'leads by a link to "1.png"' in refused(task_file(home, IMAGES))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("labels: [No, Yes]", "put it in quotes"),
        ("labels: [1.5, 2.5]", "is 1.5 in YAML"),
        ("labels: [2024-01-31, a]", "is 2024-01-31 in YAML"),
        ("labels: [null, a]", "is null in YAML"),
        ("label: on", "is true in YAML"),
    ],
)
def test_what_yaml_takes_for_something_else_is_to_be_quoted(tmp_path, line, message):
    path = task_file(tmp_path, {key: value for key, value in TEXTS.items() if key != line.partition(":")[0]})
    path.write_text(path.read_text() + line + "\n")
    assert message in refused(path)
