"""Every tuner of the installed peft, on tiny models."""

import json

import pytest
import torch
from safetensors.torch import load_file, save
from torch.nn import functional

from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.methods.base import adapter_parameters, head_parameters
from parbench.methods.from_peft.catalogue import KNOWN
from parbench.methods.from_peft.discover import tuner_names
from parbench.methods.testing.models import TINY_MODELS, as_batch, loss, outputs

REFUSED = {"cartridge", "cpt", "multitask_prompt_tuning", "poly", "shadow", "trainable_tokens", "xlora"}
OURS = {"lora", "adalora", "fourierft", "vera"}
USED = [name for name in tuner_names() if name not in REFUSED | OURS]
PROMPTS = {"prompt_tuning", "p_tuning", "prefix_tuning"}

# Default sizes that are too large for a weight of 64 x 64, or of 64 x 32.
SMALL = {
    "c3a": {"block_size": 16},
    "miss": {"r": 8},
    "oft": {"oft_block_size": 8},
    "p_tuning": {"encoder_hidden_size": 16, "num_virtual_tokens": 4},
    "prefix_tuning": {"num_virtual_tokens": 4},
    "prompt_tuning": {"num_virtual_tokens": 4},
    "psoft": {"r": 16},
    "road": {"group_size": 16},
    "shira": {"r": 4},
    "vblora": {"vector_length": 16},
    "waveft": {"n_frequency": 100},
}
# GPT-2's weights are transposed, and most tuners know nothing of that. A prompt on a classifying decoder is refused.
ON_GPT2 = {
    *("deft", "frod", "gralora", "hira", "ia3", "ln_tuning", "pvera", "randlora", "tinylora", "unilora", "vblora"),
    *("waveft", "prefix_tuning"),
}
ACCEPTED = [
    (name, model)
    for name in USED
    for model, names in (("bert", set(USED) - {"adaption_prompt"}), ("gpt2", ON_GPT2), ("llama", set(USED)))
    if name in names
]
NOT_ACCEPTED = [("adaption_prompt", "bert")] + [(name, "gpt2") for name in USED if name not in ON_GPT2]


def setting_of(name):
    return METHODS[name].setting_type(**SMALL.get(name, {}))


def adapt(name, model):
    base = TINY_MODELS[model].build()
    names = module_names(base)
    torch.manual_seed(3)
    return base, METHODS[name].adapt(base, names, setting_of(name)), names


@pytest.mark.parametrize(("name", "model"), ACCEPTED)
def test_one_step_trains_the_adapter_and_the_head_and_nothing_else(name, model, tmp_path):
    method = METHODS[name]
    _, adapted, names = adapt(name, model)
    rows = TINY_MODELS[model].rows(4)
    reference = outputs(TINY_MODELS[model].build(), rows)
    start = outputs(adapted, rows)
    assert torch.allclose(start, reference, atol=1e-5) == method.starts_at_base
    groups = method.parameter_groups(adapted, names, setting_of(name))
    assert [group.name for group in groups] == ["adapter", "head"]
    trained = {id(p) for group in groups for p in group.parameters}
    assert trained == {id(p) for p in adapted.parameters() if p.requires_grad}
    assert bool(list(head_parameters(adapted, names))) == bool(names.head)
    assert method.reported_parameters(adapted, names) == sum(p.numel() for p in adapter_parameters(adapted, names)) > 0

    before = {key: p.detach().clone() for key, p in adapted.named_parameters()}
    batch = as_batch(rows)
    optimiser = torch.optim.AdamW([{"params": group.parameters} for group in groups if group.parameters], lr=1e-2)
    loss(adapted.train()(**{key: batch[key] for key in batch if key != "labels"}).logits, batch["labels"]).backward()
    optimiser.step()
    moved = {key for key, p in adapted.named_parameters() if not torch.equal(p, before[key])}
    own = {key for key, p in adapted.named_parameters() if id(p) in trained}
    assert moved <= own
    assert any(not names.in_head(key) for key in moved)
    assert any(names.in_head(key) for key in moved) == bool(names.head)

    method.save(adapted, tmp_path)
    assert load_file(tmp_path / "adapter_model.safetensors")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == name.upper()
    state = method.adapter_state(adapted, names)
    assert state
    assert not any(names.in_head(key) for key in state)
    assert save(state)


@pytest.mark.parametrize(("name", "model"), NOT_ACCEPTED)
def test_what_peft_cannot_adapt_is_refused_by_a_sentence(name, model):
    with pytest.raises(UserError, match=f'the method "{name}" cannot adapt a {model}: .+'):
        adapt(name, model)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_compared_gives_the_reason(name):
    assert METHODS[name].refused == KNOWN[name].refused
    assert "cannot be compared" in METHODS.entry(name).summary
    with pytest.raises(UserError, match=f'the method "{name}" cannot be used here: '):
        adapt(name, "bert")


@pytest.mark.parametrize("name", [name for name in USED if METHODS[name].size_knob])
def test_the_size_grows_with_the_knob(name):
    method = METHODS[name]
    model = "llama" if name == "adaption_prompt" else "bert"
    small = {"c3a": (32, 16), "randlora": (8, 4), "vblora": (32, 64), "lokr": (1, 2)}.get(name, (4, 8))
    choices = method.size_knob.choices
    assert choices is None or choices.index(small[0]) < choices.index(small[1])
    counts = []
    for size in small:
        base = TINY_MODELS[model].build()
        names = module_names(base)
        adapted = method.adapt(base, names, method.with_size(setting_of(name), size))
        counts.append(method.reported_parameters(adapted, names))
    assert 0 < counts[0] < counts[1]


def test_shira_trains_r_rows_and_columns_worth_of_entries():
    _, adapted, names = adapt("shira", "bert")
    assert METHODS["shira"].reported_parameters(adapted, names) == 4 * 4 * (64 + 64)


def test_another_rank_keeps_the_scale():
    method = METHODS["loha"]
    resized = method.with_size(method.setting_type(r=8, alpha=16), 3)
    assert (resized.r, resized.alpha) == (3, 6)
    assert method.with_size(method.setting_type(r=8, alpha=8), 2).alpha == 2
    assert METHODS["waveft"].with_size(METHODS["waveft"].setting_type(), 7).n_frequency == 7


def test_an_option_that_peft_lacks_is_refused():
    with pytest.raises(ValueError, match=r"ranks\n.*[Ee]xtra"):
        METHODS["hira"].setting_type(ranks=8)
    with pytest.raises(ValueError, match=r"r\n.*integer"):
        METHODS["hira"].setting_type(r="eight")


def test_options_reach_peft():
    names = module_names(TINY_MODELS["bert"].build())
    config = METHODS["hira"].config(names, METHODS["hira"].setting_type(r=3, hira_dropout=0.5, target_modules=("key",)))
    assert (config.r, config.hira_dropout, config.target_modules) == (3, 0.5, {"key"})


def test_settings_can_be_written_as_json():
    for name in USED:
        setting = setting_of(name)
        assert type(setting).model_validate(json.loads(setting.model_dump_json())) == setting


def test_an_adapter_can_be_put_on_some_layers():
    method = METHODS["hira"]
    base = TINY_MODELS["bert"].build()
    names = module_names(base)
    adapted = method.adapt(base, names, method.setting_type(layers=(1,)))
    layers = {key.split("layer.")[1][0] for key, p in adapted.named_parameters() if "hira" in key}
    assert layers == {"1"}
    with pytest.raises(UserError, match="cannot be put on some layers only"):
        METHODS["shira"].adapt(base, names, METHODS["shira"].setting_type(layers=(1,)))
    with pytest.raises(UserError, match="the same size on all layers"):
        method.adapt(base, names, method.setting_type(larger_layers=(1,)))


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_the_logits_of_a_prompted_language_model_align_with_its_words(name):
    _, adapted, _ = adapt(name, "llama")
    batch = as_batch(TINY_MODELS["llama"].rows(3))
    result = adapted.eval()(**batch)
    assert result.logits.shape[:2] == batch["labels"].shape
    shifted = functional.cross_entropy(result.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    # peft's own alignment, from the labels; it has the first word predicted from the prompt besides.
    first = (
        functional.cross_entropy(_first_logits(adapted, batch), batch["labels"][:, 0]) if name != "prefix_tuning" else 0
    )
    words = batch["labels"].shape[1]
    expected = (shifted * (words - 1) + first) / (words if name != "prefix_tuning" else words - 1)
    assert result.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def _first_logits(adapted, batch):
    embeddings = adapted.word_embeddings(batch["input_ids"])
    prompted = torch.cat([adapted.get_prompt(len(embeddings)), embeddings], dim=1)
    mask = torch.ones(prompted.shape[:2], dtype=torch.long)
    logits = adapted.base_model(inputs_embeds=prompted, attention_mask=mask).logits
    return logits[:, -batch["input_ids"].shape[1] - 1]


def test_a_prompt_is_refused_where_its_input_is_not_a_text_or_the_last_word_decides():
    with pytest.raises(UserError, match="a prompt goes before text, but the model's input is pixel_values"):
        adapt("prefix_tuning", "vit")
    with pytest.raises(UserError, match="looks for the last word"):
        adapt("prompt_tuning", "gpt2")


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("prompt_tuning", {"target_modules": ("query",)}, "adapts no modules; leave target_modules out"),
        ("prompt_tuning", {"layers": (1,)}, "cannot be put on some layers only"),
        ("adamss", {"use_asa": True}, "leave it off"),
        ("randlora", {"r": 128}, "bases of rank 128 are larger than the narrowest weight, of rank 64"),
    ],
)
def test_what_would_have_no_effect_is_refused(name, options, why):
    base = TINY_MODELS["bert"].build()
    with pytest.raises(UserError, match=why):
        METHODS[name].adapt(base, module_names(base), METHODS[name].setting_type(**options))


def test_a_prompts_encoder_is_in_the_checkpoint():
    assert [type(c).__name__ for c in METHODS["p_tuning"].callbacks(setting_of("p_tuning"))] == [
        "PromptEncoderCheckpoint"
    ]
    assert METHODS["hira"].callbacks(setting_of("hira")) == []


def test_beft_can_be_merged_where_the_values_have_no_bias():
    _, adapted, names = adapt("beft", "llama")
    rows = TINY_MODELS["llama"].rows(2)
    with torch.no_grad():
        for parameter in adapter_parameters(adapted, names):
            parameter.add_(1.0)
    expected = outputs(adapted, rows)
    assert not torch.allclose(expected, outputs(TINY_MODELS["llama"].build(), rows), atol=1e-3)
    assert torch.allclose(outputs(adapted.merge_and_unload(), rows), expected, atol=1e-5)


@pytest.mark.parametrize("values", [{"oft_block_size": 7}, {"oft_block_size": 128}, {"oft_block_size": 0, "r": 7}])
def test_a_size_that_peft_would_replace_is_refused(values):
    """peft takes blocks of 8 for blocks of 7, with a warning: the table would show what was not trained."""
    base = TINY_MODELS["llama"].build()
    with pytest.raises(UserError, match="does not divide the 64 inputs of a weight; give a divisor"):
        METHODS["oft"].adapt(base, module_names(base), METHODS["oft"].setting_type(**values))
