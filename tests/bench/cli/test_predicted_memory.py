"""`bench profile --predict`: the table, and what it says of weights in fewer bits."""

import re

import pytest

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
