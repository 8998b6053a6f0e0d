import gzip
import json

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.gpt4tools import SEEN, UNSEEN, divided
from parbench.tasks.gpt4tools.metrics import AgentTrace, bleu_1, check_wanted, scores
from parbench.tasks.inference import Predictor

ASK = "Thought: Do I need to use a tool? "


def use(action, given, thought="Yes"):
    return f"{ASK}{thought}\nAction: {action}\nAction Input: {given}\nObservation:\n"


EDIT = use("Edit Image", "a.png, make the hat red")
TWICE = EDIT + use("Detect", "b.png, a dog")
NONE = f"{ASK}No\nAI: It is a hat.\n"


def test_a_text_is_parsed_line_by_line():
    steps = AgentTrace.of(f"{TWICE}{ASK} No \nAI: done")
    assert steps.thoughts == ["Yes", "Yes", "No"]
    assert steps.actions == ["Edit Image", "Detect"]
    assert steps.arguments == ["a.png, make the hat red", "b.png, a dog"]
    assert steps.answers
    assert AgentTrace.of("Thought: Do I need to use a tool?\nAction:x") == AgentTrace([], [], [], False)


# By hand, from the rules of the official evaluation; the fourth of the five is the success rate.
@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        (EDIT, EDIT, (1, 1, 1, 1, 1)),
        (TWICE, TWICE, (1, 1, 1, 1, 1)),
        (NONE, NONE, (1, 1, 1, 1, 1)),
        ("", EDIT, (0, 0, 0, 0, 0)),
        ("", NONE, (0, 0, 0, 0, 0)),
        # To ask once more when all is done is no mistake, to say "yes" is: then there are two thoughts for one.
        (EDIT + NONE, EDIT, (1, 1, 1, 1, 1)),
        (EDIT + ASK + "Yes", EDIT, (1 / 2, 1, 1, 0, 3 / 3)),
        # One of two steps: half of everything, and half of what there is in all.
        (EDIT, TWICE, (1 / 2, 1 / 2, 1 / 2, 0, 1 / 2)),
        # One step too many: the overlap does not count superfluous steps.
        (TWICE, EDIT, (1 / 2, 1 / 2, 1 / 2, 0, 1)),
        # The wrong tool.
        (use("Detect", "a.png, make the hat red"), EDIT, (1, 0, 1, 0, 2 / 3)),
        # Another file will do, no file will not; and another number of arguments will not.
        (use("Edit Image", "z.png, make the hat red"), EDIT, (1, 1, 1, 1, 1)),
        (use("Edit Image", "a.jpg, make the hat red"), EDIT, (1, 1, 0, 0, 2 / 3)),
        (use("Edit Image", "a.png"), EDIT, (1, 1, 0, 0, 2 / 3)),
        (use("Edit Image", "a.png, make the hat, red"), EDIT, (1, 1, 0, 0, 2 / 3)),
        # Three of four words are right: (1 + 3/4) / 2.
        (use("Edit Image", "a.png, make the hat blue"), EDIT, (1, 1, 7 / 8, 1, (2 + 7 / 8) / 3)),
        # No word is: half of the arguments, which is just enough.
        (use("Edit Image", "a.png, something else altogether now"), EDIT, (1, 1, 1 / 2, 1, 2.5 / 3)),
        # A thought that is no word-for-word match.
        (use("Edit Image", "a.png, make the hat red", "Yes."), EDIT, (0, 1, 1, 0, 2 / 3)),
        # Where no tool is needed: there must be an answer, and nothing else but one "No".
        (f"{ASK}No\n", NONE, (0, 0, 0, 0, 1)),
        (EDIT, NONE, (0, 0, 0, 0, 0)),
        (NONE + NONE, NONE, (1 / 2, 0, 0, 0, 1)),
        (f"{ASK}no\nAI: hm\n", NONE, (0, 0, 0, 0, 0)),
        ("\n\n" + NONE + "\n\n", NONE, (1, 1, 1, 1, 1)),
    ],
)
def test_scores_by_hand(text, wanted, expected):
    assert scores(text, wanted) == pytest.approx(expected, abs=1e-8)


def test_bleu_1_is_pycocoevalcaps():
    assert bleu_1("x", "x") == pytest.approx(1, abs=1e-8)
    assert bleu_1("x", "x") < 1
    # Two of four words: precision 1, brevity exp(1 - 4/2).
    assert bleu_1("red hat", "the red hat there") == pytest.approx(np.exp(-1), abs=1e-8)
    assert bleu_1("Red", "red") == pytest.approx(0, abs=1e-8)
    assert bleu_1("", "red") == 0


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("AI: hello", "no line"),
        (f"{ASK}Yes\nAction: Edit\nAction Input:\nAction Input: x", None),
        (EDIT + "Action: Detect\n", "2 actions"),
        (f"{ASK}Yes\nAction:Edit\nAction Input: x", "0 actions"),
    ],
)
def test_a_right_text_must_be_readable(wanted, message):
    if message is None:
        check_wanted(wanted)
        return
    with pytest.raises(UserError, match=message):
        check_wanted(wanted)


SYSTEM = "You have tools.\n> Edit Image: edits\n\n"
TALK = "Previous conversation:\n\nNew input: make the hat red\n"


def rows(count):
    outputs = (EDIT, NONE)
    return [{"instruction": f"{SYSTEM}{TALK}{n}\n", "input": "", "output": outputs[n % 2]} for n in range(count)]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "gpt4tools"
    folder.mkdir()
    for name, count in (("gpt4tools_71k", 20), ("gpt4tools_test_unseen", 6), ("gpt4tools_val_seen", 4)):
        # As the official files are: one array.
        (folder / f"{name}.json").write_text(json.dumps(rows(count)))
    return FolderSource(tmp_path)


def test_the_official_files_are_read_where_they_are(data):
    assert UNSEEN.missing(data) is SEEN.missing(data) is None
    assert UNSEEN.splits(data).sizes == {"train": 18, "selection": 2, "reported": 6}
    assert SEEN.splits(data).sizes["reported"] == 4
    assert UNSEEN.describe(data) == "local folder gpt4tools"
    (data.root / "gpt4tools" / "gpt4tools_test_unseen.json").unlink()
    assert "there is no gpt4tools_test_unseen file" in UNSEEN.missing(data)
    assert SEEN.missing(data) is None


def test_without_the_package_that_scores_it_cannot_run(data, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "needs the package pycocoevalcap" in UNSEEN.missing(data)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": TALK, "output": EDIT}, "row 1: the instruction has no system prompt"),
        ({"instruction": SYSTEM + TALK, "output": "yes"}, "row 1: the output has no line"),
        ({"instruction": SYSTEM + TALK, "output": None}, "no text as instruction or output, row 1"),
        ({"instruction": SYSTEM + TALK}, "no column output"),
    ],
)
def test_rows_of_another_form_are_refused(data, row, message):
    (data.root / "gpt4tools" / "gpt4tools_71k.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match=message):
        UNSEEN.splits(data)


def test_the_definitions_of_the_tools_stay_in_the_prompt_or_go_to_the_cloud():
    example = rows(1)[0]
    assert UNSEEN.prompt(example) == example["instruction"]
    cloud = UNSEEN.configured({"tools": "cloud"})
    assert cloud.prompt(example) == f"{TALK}0\n"
    assert divided(example["instruction"]) == (SYSTEM, f"{TALK}0\n")
    assert UNSEEN.response(example) == EDIT.strip()
    assert UNSEEN.options.max_new_tokens == 512
    with pytest.raises(UserError, match="tools"):
        UNSEEN.configured({"tools": "nowhere"})


def test_a_model_is_scored_on_what_it_writes(data, tmp_path):
    words = ["[PAD]", "[END]", "[UNK]", *["have", "tools", "edits", "New", "input", "make", "the", "hat", "red"]]
    fast = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="[PAD]", eos_token="[END]", unk_token="[UNK]", model_max_length=128
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = LlamaConfig(vocab_size=len(words), pad_token_id=0, eos_token_id=1, bos_token_id=None, **sizes)
    model = LlamaForCausalLM(config).eval()
    splits = UNSEEN.splits(data)
    with pytest.raises(UserError, match="max_new_tokens 512 are more than the 128 tokens"):
        UNSEEN.prepare(splits.train, tokenizer, 100)
    task = UNSEEN.configured({"max_new_tokens": 3})
    inputs = task.prepare(splits.reported, tokenizer, 100)
    predictor = Predictor(model, tokenizer, task.collate(tokenizer), 4, torch.device("cpu"))
    found = task.predict(predictor, splits.reported, inputs)
    ids = tokenizer(splits.reported[0]["instruction"], return_tensors="pt").input_ids
    written = model.generate(ids, max_new_tokens=3, do_sample=False)[0, ids.shape[1] :]
    assert found["text"][0] == tokenizer.decode(written, skip_special_tokens=True)
    found.to_parquet(tmp_path / "rows.parquet")
    names = ("sr_thought", "sr_action", "sr_args", "sr", "iou", "average")
    assert task.score(pd.read_parquet(tmp_path / "rows.parquet")) == dict.fromkeys(names, 0)
    likelihood = task.selected_by.predict(predictor, splits.reported, inputs)
    # The words of the outputs are all unknown, or hat and red: what is scored is the output with its end of text.
    assert likelihood["tokens"].tolist() == [
        len(tokenizer(output.strip()).input_ids) + 1 for output in splits.reported["output"]
    ]


def test_the_scores_are_means_and_average_is_the_mean_of_the_five(data):
    reported = UNSEEN.splits(data).reported
    texts = [EDIT, "", EDIT, NONE, "", NONE]
    found = UNSEEN.predictions(reported, texts)
    # Right are the first, third, fourth and last.
    scored = UNSEEN.score(found)
    assert scored == pytest.approx(dict.fromkeys(scored, 4 / 6), abs=1e-8)
    assert scored["average"] == pytest.approx(np.mean([scored[name] for name in list(scored)[:5]]))
    rest = UNSEEN.leave_one_out(found, "average")
    assert rest[1] == pytest.approx(4 / 5, abs=1e-8)


def test_real_texts_of_the_form(real_data, tmp_path):
    file = real_data / "gpt4tools-like" / "magicbrush_gpt4tools_format.jsonl.gz"
    wanted = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    (tmp_path / "gpt4tools").mkdir()
    for name in ("gpt4tools_71k", "gpt4tools_test_unseen"):
        (tmp_path / "gpt4tools" / f"{name}.json").write_text(json.dumps(wanted))
    reported = UNSEEN.splits(FolderSource(tmp_path)).reported
    assert len(reported) == 261
    right = reported["output"][:]
    assert UNSEEN.score(UNSEEN.predictions(reported, right)) == pytest.approx(
        dict.fromkeys(("sr_thought", "sr_action", "sr_args", "sr", "iou", "average"), 1), abs=1e-8
    )
    # Each beside its neighbour's answer: what the official program prints for the same texts.
    found = UNSEEN.score(UNSEEN.predictions(reported, right[1:] + right[:1]))
    assert found == {
        "sr_thought": pytest.approx(0.4789272030651341),
        "sr_action": pytest.approx(0.4789272030651341),
        "sr_args": pytest.approx(0.37927052185012605),
        "sr": pytest.approx(0.4789272030651341),
        "iou": pytest.approx(0.4457083093267981),
        "average": pytest.approx(np.mean([0.4789272030651341] * 3 + [0.37927052185012605, 0.4457083093267981])),
    }
