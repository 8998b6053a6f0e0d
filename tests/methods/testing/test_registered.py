"""Every registered method keeps the contract, ours, peft's and those of other packages."""

from importlib.util import find_spec

import pytest

from parbench.bench.util.base_precision import QUANTISED
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS, find_method
from parbench.methods.from_peft.catalogue import KNOWN
from parbench.methods.from_peft.known import KnownTuner

REFUSED = [name for name in METHODS if KNOWN.get(name, KnownTuner()).refused]

PROMPTS = "peft's disable_adapter wants the model to have prepare_inputs_for_generation, which a classifier does not"
START_IN_WEIGHTS = "peft moves the start of the factors into the base weights, and does not take it out to disable them"

# Known faults that cannot be fixed here: exactly these checks fail.
FAULTS = {
    "lora_gen": (
        {"count"},
        "reported is the LoRA that the edge gets, which is not a sum of parameter groups",
    ),
    "prompt_tuning": ({"disable"}, PROMPTS),
    "p_tuning": ({"disable"}, PROMPTS),
    "prefix_tuning": ({"disable", "gpt2"}, PROMPTS),
    "lora+pissa": ({"disable", "gpt2", "llama", "vit"}, START_IN_WEIGHTS),
    "lora+olora": ({"disable", "llama", "vit", *QUANTISED}, START_IN_WEIGHTS),
    **dict.fromkeys(("hra", "peanut", "deft"), ({"int8"}, "peft computes with the packed weight")),
    "c3a": ({"int8"}, "peft adds the update to the packed weight when it merges"),
    "pvera": ({"nf4"}, "peft stores what is merged without quantising it"),
    "randlora": ({*QUANTISED}, "peft stores what is merged without quantising it"),
    "unilora": ({*QUANTISED}, "the parameter that layers share is no longer shared on quantised weights"),
}

MODIFIED = [
    "lora+pissa",
    "lora+olora",
    "lora+rslora",
    "lora+lora_plus(16)",
    "lora+qv_ratio(4)",
    "loca+qv_ratio(4,strict)",
]


@pytest.mark.parametrize("name", [*(name for name in METHODS if name not in REFUSED), *MODIFIED])
def test_method_keeps_the_contract(name):
    from parbench.methods.testing import check_method

    report = check_method(find_method(name).method)
    expected, _ = FAULTS.get(name, (set(), ""))
    if find_spec("bitsandbytes") is None:
        expected = expected - {*QUANTISED}
    assert {check.name for check in report.failures} == expected, f"\n{report}"


@pytest.mark.parametrize("name", REFUSED)
def test_method_that_cannot_be_compared_gives_the_reason(name):
    from parbench.methods.architecture import module_names
    from parbench.methods.testing import TINY_MODELS

    method = METHODS[name]
    model = TINY_MODELS["llama"].build()
    with pytest.raises(UserError) as raised:
        method.adapt(model, module_names(model), method.setting_type())
    assert str(raised.value).endswith(KNOWN[name].refused)
