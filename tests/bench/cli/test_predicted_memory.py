"""`bench profile --predict`: the table, and what it says of weights in fewer bits."""

import re

import pytest
from torch import nn
from transformers import T5Config

from parbench.bench.profile.prediction import predict_memory
from parbench.bench.profile.workload import Candidate, Workload
from parbench.methods import find_method
from parbench.methods.expression import default_setting

MORE = "a process took up to 22 % more than predicted, or 10 % less, and in int8 up to 40 % more"


@pytest.mark.parametrize("precision", ["float32", "nf4"])
def test_the_table_is_that_of_the_prediction(bench, tiny_model, precision):
    pytest.importorskip("bitsandbytes")
    asked = ("--methods", "lora", "--model", tiny_model, "--batch", "8", "--seq", "24", "--dtype", precision)
    result = bench("profile", "--predict", *asked)
    assert result.code == 0, result.err
    choice = find_method("lora")
    candidate = Candidate.of("lora", choice.method, default_setting(choice))
    found = predict_memory(candidate, Workload(str(tiny_model), 8, 24, "cpu", precision))
    (line,) = (line for line in result.out.splitlines() if line.strip().startswith("lora"))
    assert re.split(r" {2,}", line.strip())[-2:] == [f"{size / 2**20:,.1f}" for size in (found.peak, found.process)]
    assert (MORE in " ".join(result.out.split())) == (precision == "nf4")


def test_where_nothing_is_predicted_the_command_says_why_and_fails(bench, tiny_model, monkeypatch):
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x.item())
    result = bench("profile", "--predict", "--methods", "lora", "--model", tiny_model, "--seq", "24")
    assert result.code == 2
    assert "nothing was predicted: frozen floor: not predicted" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "command",
    [
        ("recommend", "--task", "glue/sst2"),
        ("profile", "--random-weights", "--methods", "lora", "--predict"),
        ("profile", "--random-weights", "--methods", "lora"),
        ("budget", "--budget", "24k", "--methods", "lora"),
    ],
)
def test_an_architecture_that_is_not_described_is_one_sentence(bench, tmp_path, command):
    config = T5Config(d_model=32, d_ff=64, num_layers=1, num_heads=2, d_kv=16, vocab_size=100)
    config.architectures = ["T5ForConditionalGeneration"]
    config.save_pretrained(tmp_path / "t5")
    result = bench(command[0], "--model", tmp_path / "t5", *command[1:])
    assert result.code == 2
    assert 'the base model "t5" has the architecture "t5", which cannot be adapted' in result.err
    assert "Traceback" not in result.err
