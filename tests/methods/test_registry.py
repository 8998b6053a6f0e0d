import importlib.util
import subprocess
import sys

import pytest
from peft import PeftType

from parbench.bench.util.errors import UserError
from parbench.bench.util.registry import Entry, Registry
from parbench.methods import METHODS
from parbench.methods.base import Method
from parbench.methods.from_peft.catalogue import KNOWN
from parbench.methods.from_peft.discover import tuner_names
from parbench.methods.from_peft.known import KnownTuner
from parbench.methods.from_peft.method import PeftMethod

OURS = ["lora", "dora", "adalora", "fourierft", "fourierft_fast", "vera", "loca", "replora", "lora_gen"]
OURS += ["full", "bitfit", "linear_probe"]


def test_ours_come_first_and_no_name_twice():
    names = list(METHODS)
    assert names[: len(OURS)] == OURS
    assert len(names) == len(set(names))


def test_every_tuner_of_peft_is_there():
    # Packages add their own to the enum at run time, as loca and replora do.
    of_peft = {member.value.lower() for member in PeftType} - {"loca", "replora"}
    assert set(tuner_names()) == of_peft
    assert of_peft <= set(METHODS)
    assert set(KNOWN) <= of_peft


def test_names_and_summaries_need_neither_torch_nor_peft():
    code = (
        "import sys; from parbench.methods import METHODS; entries = [METHODS.entry(name) for name in METHODS]\n"
        "assert len(entries) > 40 and all(entry.summary for entry in entries)\n"
        "print([name for name in ('torch', 'peft', 'transformers') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_is_complete(name):
    method = METHODS[name]
    assert isinstance(method, Method)
    assert method.name == name
    assert method.reference.title
    assert method.reference.year >= 2016
    setting = method.setting_type()
    fields = {dimension.field for dimension in method.search_space}
    assert fields
    assert fields <= {*method.setting_type.model_fields, "update_step"}
    assert all(0 < dimension.low < dimension.high for dimension in method.search_space)
    if method.size_knob is not None:
        assert method.size_knob.field in method.setting_type.model_fields
    for dimension in method.search_space:
        if dimension.field == "update_step":
            default = setting.learning_rate * method.atom_norm(setting, (768, 768))
        else:
            default = getattr(setting, dimension.field)
        assert dimension.low <= default <= dimension.high


def test_spectral_methods_are_searched_in_the_same_units():
    searched = {name: METHODS[name].search_space[0].field for name in ("loca", "fourierft")}
    assert set(searched.values()) == {"update_step"}


def test_without_peft_nothing_is_discovered(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert tuner_names() == []


def test_a_tuner_that_nothing_is_known_of_is_still_a_method():
    method = PeftMethod("loha", KnownTuner())
    assert method.reference.title.startswith("PEFT")
    assert method.size_knob is None
    assert method.setting_type().r == 8


def test_a_registered_name_goes_before_a_discovered_one():
    registry = Registry(
        "number",
        discover=lambda: [Entry("pi", "3", "nowhere", lambda: 3.0), Entry("e", "2.7", "nowhere", lambda: 2.7)],
    )
    registry.register("pi", "math:pi", "3.14")
    assert list(registry) == ["pi", "e"]
    assert "e" in registry
    assert (registry["pi"], registry["e"]) == (pytest.approx(3.14159, abs=1e-5), 2.7)
    with pytest.raises(UserError, match='there is no number called "tau"'):
        registry["tau"]
