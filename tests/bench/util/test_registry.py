import sys
from importlib.metadata import EntryPoint

import pytest

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.registry import Registry


@pytest.fixture
def registry():
    registry = Registry("gadget")
    registry.register("fraction", "fractions:Fraction", "an exact number")
    registry.register("colour", "colorsys:rgb_to_hsv", "a conversion")
    return registry


def test_an_object_is_imported_only_when_it_is_asked_for(registry, monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert list(registry) == ["fraction", "colour"]
    assert registry.entry("colour").summary == "a conversion"
    assert "colorsys" not in sys.modules
    assert registry["colour"](0, 0, 0) == (0.0, 0.0, 0)
    assert registry.entry("colour").module == "colorsys"


def test_a_misspelt_name_is_answered_with_the_near_one(registry):
    with pytest.raises(UserError, match='there is no gadget called "fracton"; did you mean "fraction"'):
        registry["fracton"]


def test_a_strange_name_is_answered_with_all_names(registry):
    with pytest.raises(UserError, match="there is: colour, fraction"):
        registry["zzz"]


def test_a_name_is_registered_once(registry):
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("colour", "math:pi", "")


def points(*pairs):
    return lambda group: [EntryPoint(name, value, group) for name, value in pairs]


def test_outside_objects_come_by_entry_point(monkeypatch):
    monkeypatch.setattr("parbench.bench.util.registry.entry_points", points(("outside", "math:pi")))
    registry = Registry("number", entry_point_group="somewhere")
    assert list(registry) == ["outside"]
    assert 3.14 < registry["outside"] < 3.15


def test_an_outside_object_that_cannot_be_imported_is_a_sentence(monkeypatch):
    monkeypatch.setattr("parbench.bench.util.registry.entry_points", points(("broken", "no_such_module:x")))
    with pytest.raises(UserError, match='the number "broken" of the package "no_such_module:x" cannot be imported'):
        Registry("number", entry_point_group="somewhere")["broken"]


@pytest.mark.parametrize("text", ["1 / 0", "raise SystemExit('bye')", "x ="])
def test_an_outside_package_may_raise_anything_when_it_is_imported(monkeypatch, tmp_path, text):
    (tmp_path / "faulty_package.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("parbench.bench.util.registry.entry_points", points(("broken", "faulty_package:x")))
    with pytest.raises(UserError, match=r"cannot be imported: (ZeroDivisionError|SystemExit|SyntaxError): "):
        Registry("number", entry_point_group="somewhere")["broken"]


def test_an_outside_object_is_of_the_kind_that_is_registered(monkeypatch):
    monkeypatch.setattr("parbench.bench.util.registry.entry_points", points(("half", "math:pi")))
    registry = Registry("number", entry_point_group="somewhere", base="fractions:Fraction")
    with pytest.raises(UserError, match=r'the number "half" of .* is of type float, and must be a fractions\.Fraction'):
        registry["half"]


def test_an_outside_object_may_not_take_a_name_of_ours(monkeypatch):
    monkeypatch.setattr("parbench.bench.util.registry.entry_points", points(("mine", "math:pi")))
    registry = Registry("number", entry_point_group="somewhere")
    registry.register("mine", "math:e", "")
    with pytest.raises(UserError, match='offers a number called "mine", but that name is taken'):
        registry["other"]


def test_did_you_mean_states_when_there_is_nothing():
    assert did_you_mean("x", []) == "; there is none"
