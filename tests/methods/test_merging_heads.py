"""Our own tuners merge where a task head of several layers was trained along, which peft's base class cannot."""

import pytest
import torch
from peft import get_peft_model
from transformers import RobertaConfig, RobertaForSequenceClassification

from parbench.methods.loca import LocaConfig
from parbench.methods.replora import RepLoraConfig

CONFIGS = [
    LocaConfig(n_frequency=30, init_weights=False, target_modules=["query", "value"], task_type="SEQ_CLS"),
    RepLoraConfig(r=4, init_weights=False, target_modules=["query", "value"], task_type="SEQ_CLS"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["loca", "replora"])
@pytest.mark.parametrize("merged", [True, False])
def test_a_head_of_several_layers_is_unloaded(config, merged):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = RobertaForSequenceClassification(RobertaConfig(vocab_size=50, max_position_embeddings=20, **sizes))
    model = get_peft_model(base, config).eval()
    ids = torch.randint(3, 50, (2, 8))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(0.1)
            elif parameter.requires_grad and "locations" not in name:
                parameter.mul_(20.0)
        before = model(ids).logits
        plain = model.merge_and_unload() if merged else model.unload()
        assert type(plain.classifier).__name__ == "RobertaClassificationHead"
        after = plain(ids).logits
    assert torch.allclose(after, before, atol=1e-5) is merged
