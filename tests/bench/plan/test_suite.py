import pytest

from parbench.bench.plan.suite import choose_suite, load_suite, parse_suite, suite_names, suite_text
from parbench.bench.util.errors import UserError

GOOD = """
name: own
title: a suite
small: true
shows: something
cannot_show: everything else
base_model: minilm-l6
data: package
methods: [lora]
tasks: [glue/sst2]
seeds: [1]
"""


def test_every_suite_that_comes_along_is_one():
    names = {"mini", "small", "loca_paper", "lora_gen_mini", "lora_gen_paper"}
    assert {load_suite(name).name for name in suite_names()} == set(suite_names()) == names


def test_a_suite_can_be_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(GOOD)
    assert load_suite(str(path)).methods == ("lora",)


def test_a_suite_names_its_protocol_and_is_strict_otherwise():
    assert parse_suite(GOOD, "x").protocol == "strict"
    assert parse_suite(GOOD + "protocol: paper:best_epoch", "x").protocol == "paper:best_epoch"


def test_a_suite_reads_back_as_it_was_written():
    suite = load_suite("mini")
    assert parse_suite(suite_text(suite), "x") == suite


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "is not YAML"),
        ("- a", "is not a mapping"),
        (GOOD + "colour: red", 'there is no field "colour"'),
        (GOOD.replace("methods: [lora]", "methods: []"), 'field "methods"'),
        (GOOD.replace("seeds: [1]", "seeds: [-1]"), 'field "seeds.0": input should be greater than or equal to 0'),
        (GOOD.replace("title: a suite\n", ""), 'field "title": field required'),
        (GOOD.replace("name: own", "name: ../own"), 'field "name"'),
        (GOOD + "protocol: best_epoch", "field \"protocol\": input should be 'strict' or 'paper:best_epoch'"),
        (GOOD + "title: another", r'is not YAML: "title" is given twice \(line 12\)'),
        (GOOD + "by_task:\n  glue: {limit: 5}\n  glue: {limit: 6}", r'"glue" is given twice \(line 14\)'),
        (GOOD + "x: 1970-99-99", "is not YAML: month must be in"),
        (GOOD + "x: " + "[" * 5000, "is not YAML: it is nested too deeply"),
        (GOOD.replace("seeds: [1]", "seeds: [4294967296]"), 'field "seeds.0": input should be less than 4294967296'),
        (GOOD + "x: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_what_is_not_a_suite_is_a_sentence(text, complaint):
    with pytest.raises(UserError, match=f'the suite "x" .*{complaint}'):
        parse_suite(text, "x")


def test_anchors_and_merges_are_yaml_too():
    text = GOOD.replace("methods: [lora]", "methods: &all [lora]") + "settings: {a: &a {r: 1}, b: {<<: *a, r: 2}}"
    suite = parse_suite(text, "x")
    assert suite.methods == ("lora",)
    assert suite.settings == {"a": {"r": 1}, "b": {"r": 2}}


def test_an_unknown_suite_is_a_sentence():
    with pytest.raises(UserError, match='no suite called "mimi", nor a file; did you mean "mini"'):
        load_suite("mimi")


def test_auto_falls_back_to_mini_and_gives_the_reason(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    choice = choose_suite("auto", lambda suite: None)
    assert choice.suite.name == "mini"
    assert choice.why == "chosen by auto: loca_paper cannot run here, it needs a CUDA device and there is none"


def device_of(monkeypatch, gib):
    from types import SimpleNamespace

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: SimpleNamespace(total_memory=gib * 2**30))


def test_auto_takes_the_full_suite_where_it_can_run(monkeypatch):
    device_of(monkeypatch, 24)
    assert choose_suite("auto", lambda suite: None).suite.name == "loca_paper"


def test_auto_looks_at_the_memory_and_at_what_can_be_had(monkeypatch):
    device_of(monkeypatch, 8)
    assert "it needs 15 GiB of device memory and there are 8" in choose_suite("auto", lambda suite: None).why
    device_of(monkeypatch, 24)
    assert choose_suite("auto", lambda suite: "no network").why.endswith("no network")
