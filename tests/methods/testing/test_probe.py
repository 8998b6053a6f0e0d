"""What methods can do, found by trying."""

import pytest

from parbench.methods import METHODS
from parbench.methods.lora import Lora
from parbench.methods.probe import Ability, Capabilities, capability_rows, probe
from parbench.methods.testing import TINY_MODELS


def row(name: str) -> Capabilities:
    (found,) = capability_rows([name])
    return found


def test_lora():
    found = row("lora")
    assert found.method == "lora"
    assert found.models == dict.fromkeys(TINY_MODELS, Ability(True))
    assert found.starts_at_base == found.merges == Ability(True)
    # Query and value projections of two layers, 64 wide.
    assert found.counts is not None
    assert (found.counts.model, found.counts.width, found.counts.size) == ("bert", 64, "r=8")
    assert found.counts.reported == found.counts.optimised == 2 * 2 * 8 * (64 + 64)
    assert 4 * found.counts.optimised < found.counts.file_bytes < 4 * found.counts.optimised + 2048
    assert found.reason == ""


def test_loca_optimises_more_than_it_reports():
    counts = row("loca").counts
    assert counts is not None
    assert counts.optimised == 3 * counts.reported


def test_an_expression_is_probed_with_its_options():
    found = row("lora(r=2)+rslora")
    assert found.counts is not None
    assert found.counts.size == "r=2"
    assert found.counts.optimised == 2 * 2 * 2 * (64 + 64)


def test_declarations_are_not_asked():
    class Liar(Lora):
        starts_at_base = False
        mergeable = False

    found = probe(Liar())
    assert found.starts_at_base == found.merges == Ability(True)
    assert found.models["bert"].able


def test_full_fine_tuning_has_nothing_to_merge():
    found = row("full")
    assert found.merges == Ability(False, "the adapted model has no merge_and_unload")
    assert all(ability.able for ability in found.models.values())


def test_a_start_elsewhere_is_measured():
    found = row("fourierft")
    assert found.starts_at_base is not None
    assert not found.starts_at_base.able
    assert found.starts_at_base.reason.startswith("outputs change by ")


def test_an_unknown_name_is_a_row_with_the_reason():
    found = row("lorra")
    assert found == Capabilities("lorra", reason='there is no method called "lorra"; did you mean "lora"?')


def test_what_a_method_raises_is_a_reason():
    class NeedsMore(Lora):
        def parameter_groups(self, model, names, setting):
            raise RuntimeError("first line\nsecond line")

        def adapt(self, model, names, setting):
            if names.query == "c_attn":
                raise KeyError("x" * 200)
            return super().adapt(model, names, setting)

    found = probe(NeedsMore())
    assert found.counts is found.merges is found.starts_at_base is None
    assert found.models["bert"] == Ability(False, "first line")
    assert len(found.models["gpt2"].reason) == 120
    assert found.models["gpt2"].reason.endswith("…")
    assert found.reason == "works on no tiny model"


def test_a_method_that_breaks_where_nothing_is_caught_is_a_row():
    class Unusable(Lora):
        @property
        def setting_type(self):
            raise AttributeError("no setting")

    assert probe(Unusable()) == Capabilities("lora", reason="no setting")


def test_no_model_is_begun_after_the_time():
    found = probe(Lora(), seconds=0.0)
    assert list(found.models) == ["bert"]
    assert found.reason == "out of time after bert"
    assert found.counts is not None


@pytest.mark.parametrize("name", ["xlora", "poly"])
def test_one_reason_for_all_models_is_the_methods(name):
    assert name in METHODS
    found = row(name)
    assert not any(ability.able for ability in found.models.values())
    assert "cannot be used here" in found.reason
