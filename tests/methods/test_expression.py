import pytest

from parbench.bench.util.errors import UserError
from parbench.methods import METHODS, find_method
from parbench.methods.expression import MODIFIERS, split


@pytest.mark.parametrize(
    ("expression", "name", "values"),
    [
        ("lora", "lora", {}),
        ("lora()", "lora", {}),
        ("lora(r=4)", "lora", {"r": 4}),
        ("lora( r=4, alpha=1.5e+1 )", "lora", {"r": 4, "alpha": 15.0}),
        ("lora(target_modules=[query, key],r=2)", "lora", {"target_modules": ["query", "key"], "r": 2}),
        ("dora+qv_ratio(8)", "dora+qv_ratio(8)", {}),
        ("dora + qv_ratio( 8.0 )", "dora+qv_ratio(8)", {}),
        ("lora+qv_ratio(2.5,strict)", "lora+qv_ratio(2.5,strict)", {}),
        ("lora+qv_ratio(4)+lora_plus(16)+rslora", "lora+rslora+lora_plus(16)+qv_ratio(4)", {}),
        ("lora(r=16)+pissa+rslora", "lora+pissa+rslora", {"r": 16}),
        ("hira(r=4)+qv_ratio(1e1)", "hira+qv_ratio(10)", {"r": 4}),
    ],
)
def test_an_expression_gives_a_method_its_name_and_values(expression, name, values):
    choice = find_method(expression)
    assert choice.method.name == name
    assert choice.values == values
    assert choice.registered == name.partition("+")[0]
    # A name is found again, and can own an option on the command line: lora+qv_ratio(4).r=8
    assert find_method(name).method.name == name
    assert not set(name) & set("= \t\n")


def test_without_modifiers_the_method_is_the_registered_one():
    choice = find_method("lora(r=4)")
    assert choice.method is METHODS["lora"]
    assert choice.modules == ("parbench.methods.lora",)
    assert find_method("lora+rslora").modules == ("parbench.methods.lora", "parbench.methods.modifiers")


def test_values_are_not_checked_but_their_names_are():
    assert find_method("lora(r=eight)").values == {"r": "eight"}


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("lorra", 'no method called "lorra"; did you mean "lora"'),
        (
            "qlora(r=8)",
            'no method called "qlora": it is lora on quantised weights, --methods lora --base-precision nf4',
        ),
        ("pissa", 'no method called "pissa": it is a modifier, as in lora+pissa'),
        ("full_finetuning", 'no method called "full_finetuning"; did you mean "full"'),
        ("lora(rank=8)", 'no option "rank"; did you mean "r"'),
        ("lora(rank=3)", 'the method "lora" has no option "rank"; '),
        ("lora(lerning_rate=3)", 'did you mean "learning_rate"'),
        ("lora+qvratio(4)", 'no modifier called "qvratio"; did you mean "qv_ratio"'),
        ("lora+qv_ratio", "needs a positive factor"),
        ("lora+qv_ratio(0)", "needs a positive factor"),
        ("lora+qv_ratio(-4)", "needs a positive factor"),
        ("lora+qv_ratio(inf)", "needs a positive factor"),
        ("lora+qv_ratio(nan)", "needs a positive factor"),
        ("lora+qv_ratio(four)", "needs a positive factor"),
        ("lora+qv_ratio(4,strikt)", 'takes no "strikt"'),
        ("lora+qv_ratio(4,strict,5)", 'takes no "5"'),
        ("lora+lora_plus(4,5)", 'takes no "5"'),
        ("lora+pissa(3)", 'takes no "3"'),
        ("lora+rslora(3)", 'takes no "3"'),
        ("lora+pissa+olora", "cannot have both olora and pissa"),
        ("lora+qv_ratio(4)+qv_ratio(8)", 'has the modifier "qv_ratio" twice'),
        ("lora+lora_plus(2)+qv_ratio(4,strict)", "has no lora_plus"),
        ("vera+pissa", 'for lora and dora, not for "vera"'),
        ("vera+rslora", 'for lora and dora, not for "vera"'),
        ("loca+lora_plus(4)", 'for lora and dora, not for "loca"'),
        ("lora(r=4", "brackets"),
        ("lora)r=4(", "brackets"),
        ("lora(r)", "not of the form option=value"),
        ("lora(r=4,r=5)", "a second value"),
        ("lora(r={)", "brackets"),
        ("lora(r='4)", "neither a number, a word nor a"),
        ("lora(r=1970-99-99)", "neither a number, a word nor a"),
        ("lora(r={a: 1, a: 2})", "neither a number, a word nor a"),
        ("lora(r=8)(r=4)", "is not of the form"),
        ("lora+", 'has nothing before or behind a "+"'),
        ("+rslora", 'has nothing before or behind a "+"'),
        ("", "not of the form"),
        ("lora (r=3) x", "not of the form"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(expression, why):
    with pytest.raises(UserError) as error:
        find_method(expression)
    assert why in str(error.value)


def test_comma_separated_methods_are_split_outside_of_brackets():
    assert split("lora(r=8,alpha=4),loca, dora+qv_ratio(4,strict)", ",") == [
        "lora(r=8,alpha=4)",
        "loca",
        "dora+qv_ratio(4,strict)",
    ]


def test_every_modifier_has_its_paper():
    titles = set()
    for name in MODIFIERS:
        arguments = "(4)" if name in ("lora_plus", "qv_ratio") else ""
        method = find_method(f"lora+{name}{arguments}").method
        assert method.reference.arxiv
        titles.add(method.reference.title)
    assert len(titles) == len(MODIFIERS)


def test_a_value_may_close_one_bracket_and_open_another():
    assert find_method("lora(target_modules=(query)(_proj)?)").values == {"target_modules": "(query)(_proj)?"}
