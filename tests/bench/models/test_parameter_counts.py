"""The counts of a run's model, on each precision of its base weights."""

import pytest
import torch
from transformers import LlamaForCausalLM

from parbench.bench.models.catalogue import find_model
from parbench.bench.models.parameter_counts import Inventory, count_parameters
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.tasks.base import Head
from tests.support.tiny_llama import tiny_llama, tiny_model_folder

SENTIMENT = Head("AutoModelForSequenceClassification", ("negative", "positive"))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_counts_do_not_depend_on_the_precision(tmp_path, method):
    """peft's DoRA replaces the parameters of quantised weights, whose identities the adapter's then get."""
    pytest.importorskip("bitsandbytes")
    config = tiny_llama().config
    config.num_hidden_layers = 6  # of which some identities are used again
    base_model = find_model(str(tiny_model_folder(tmp_path, LlamaForCausalLM(config))))
    chosen, found = METHODS[method], {}
    for precision in ("float32", "bfloat16", "int8", "nf4"):
        base = base_model.load(SENTIMENT, "", precision)
        inventory, names = Inventory.of(base), module_names(base)
        model = chosen.adapt(base, names, setting := chosen.setting_type())
        groups = chosen.parameter_groups(model, names, setting)
        counts = count_parameters(model, chosen, names, groups, 0, inventory)
        found[precision] = (counts.reported, counts.optimised, counts.head, counts.frozen, counts.frozen_stored)
    assert len(set(found.values())) == 1, found
    assert found["int8"][3] == 0


def test_a_parameter_with_the_identity_of_one_that_is_gone_is_not_the_base_models():
    model = torch.nn.Linear(2, 2)
    inventory = Inventory.of(model)
    kept = model.bias
    place = id(model.weight)
    del model.weight
    others = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(50)]
    assert inventory.has(kept)
    assert not any(map(inventory.has, others))
    assert place not in inventory.parameters or inventory.parameters[place]() is None
