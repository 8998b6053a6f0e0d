"""Parameter counts against numbers from outside, on real shapes without weights."""

from collections.abc import Callable

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.base import head_parameters

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def llama_3_2_3b(layers: int = 28):
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=3072,
            num_hidden_layers=layers,
            num_attention_heads=24,
            num_key_value_heads=8,
            head_dim=128,
            intermediate_size=8192,
            vocab_size=128256,
            tie_word_embeddings=True,
        )
    )


def llama_2(hidden: int, layers: int):
    return LlamaForCausalLM(
        LlamaConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // 128)
    )


def roberta(**shape):
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_labels=2, **shape)
    return RobertaForSequenceClassification(config)


def vit(**shape):
    return ViTForImageClassification(ViTConfig(num_labels=10, **shape))


def adapted(expression: str, make: Callable):
    """Return the method, the adapted model on the meta device, its module names and the setting."""
    choice = find_method(expression)
    setting = choice.method.setting_type(**choice.values)
    with torch.device("meta"):
        model = make()
        names = module_names(model)
        return choice.method, choice.method.adapt(model, names, setting), names, setting


def reported(expression: str, make: Callable) -> int:
    method, model, names, _ = adapted(expression, make)
    return method.reported_parameters(model, names)


# Trainable parameters of Llama-3.2-3B as peft's own comparison of methods records them. Query and value projections and
# peft's defaults, but for what is named.
@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("lora(r=32)", 9_175_040),
        ("lora(r=64)", 18_350_080),
        ("lora(r=64)+rslora", 18_350_080),
        ("lora(r=10,target_modules=[up_proj,gate_proj,down_proj])", 9_461_760),
        ("dora(r=32)", 9_289_728),
        ("vera(r=256)", 129_024),
        ("fourierft(n_frequency=1000)", 56_000),
        ("fourierft(n_frequency=5000)", 280_000),
        ("full", 3_212_749_824),
        ("adaption_prompt(adapter_len=100)", 8_601_628),
        ("beft", 28_672),
        # Not the default of 256: blocks of 64, for 3072 (3072 + 1024) / 64 a layer.
        ("c3a(block_size=64)", 5_505_024),
        ("deft(r=32)", 9_175_040),
        ("delora(r=32)", 9_175_096),
        ("glora", 4_587_520),
        ("gralora", 9_175_040),
        ("hira", 9_175_040),
        # peft's default targets: key, value and down projection.
        ("ia3", 286_720),
        (
            "ia3(target_modules=[q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj],"
            "feedforward_modules=[gate_proj,up_proj,down_proj])",
            630_784,
        ),
        ("lily(r=896,stride_A=14)", 18_450_432),
        ("ln_tuning", 175_104),
        ("loha(r=32)", 18_350_080),
        ("lokr(r=32,decompose_factor=4)", 2_294_656),
        ("miss", 7_340_032),
        ("miss(init_weights=mini,mini_r=64)", 229_376),
        ("oft(r=32,oft_block_size=0)", 8_171_520),
        ("p_tuning(encoder_hidden_size=3072)", 28_382_208),
        ("peanut", 7_340_032),
        ("prefix_tuning(num_virtual_tokens=200)", 11_468_800),
        ("prompt_tuning(num_virtual_tokens=200)", 614_400),
        ("psoft(r=256)", 1_856_512),
        ("pvera", 143_360),
        ("randlora", 9_289_728),
        ("road(variant=road_2)", 229_376),
        ("tinylora", 3_584),
        ("vblora", 1_212_416),
        ("waveft(n_frequency=5000)", 280_000),
    ],
)
def test_llama_3_2_3b(expression, count):
    assert reported(expression, llama_3_2_3b) == count


@pytest.mark.parametrize(("expression", "layers", "count"), [("boft", 1, 802_816 // 28), ("unilora", 28, 256)])
def test_methods_that_compute_with_their_own_new_tensors(expression, layers, count):
    choice = find_method(expression)
    with torch.device("meta"):
        model = llama_3_2_3b(layers)
    names = module_names(model)
    adapted = choice.method.adapt(model, names, choice.method.setting_type())
    assert choice.method.reported_parameters(adapted, names) == count


@pytest.mark.parametrize("expression", ["adamss", "boft", "frod", "shira", "unilora"])
def test_methods_that_compute_with_the_weights_say_so_on_the_meta_device(expression):
    with pytest.raises(UserError, match=f'the method "{expression}" cannot be put on the meta device'):
        reported(expression, lambda: llama_3_2_3b(1))


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("lora(r=8)", 294_912),
        ("lora(r=16)", 589_824),
        ("lora(r=8,target_modules=[query,key,value])", 442_368),
        ("lora(r=4)", 147_456),  # FourierFT, Table 1: 147 K
        ("fourierft(n_frequency=200)", 4_800),  # the same: 4.8 K
        ("fourierft(n_frequency=1000)", 24_000),  # the same: 24 K
        ("vera(r=1)", 18_456),  # VeRA, Table 1: 18.4 K
        ("vera(r=16)", 18_816),  # 18.8 K
        ("vera(r=256)", 24_576),  # 24.5 K
        ("vera(r=1024)", 43_008),  # 0.043 M, Table 2
        ("c3a(block_size=128)", 110_592),  # 24 * 768 * 768 / 128
    ],
)
def test_roberta_base(expression, count):
    assert reported(expression, roberta) == count


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("lora(r=4)", 393_216),
        ("lora(r=8)", 786_432),
        ("fourierft(n_frequency=200)", 9_600),
        ("fourierft(n_frequency=1000)", 48_000),
        ("vera(r=256)", 61_440),
    ],
)
def test_roberta_large(expression, count):
    assert reported(expression, lambda: roberta(**LARGE)) == count


@pytest.mark.parametrize(
    ("expression", "base", "large"),
    [
        ("lora(r=16)", 589_824, 1_572_864),
        ("fourierft(n_frequency=3000)", 72_000, 144_000),
        ("fourierft(n_frequency=10000)", 240_000, 480_000),  # printed 239 K and 480 K
        ("vera(r=256)", 24_576, 61_440),
    ],
)
def test_vit(expression, base, large):
    assert reported(expression, vit) == base
    assert reported(expression, lambda: vit(**LARGE)) == large


@pytest.mark.parametrize(
    ("shape", "expression", "count"),
    [
        ((4096, 32), "lora(r=16)", 8_388_608),  # 8.39 M
        ((4096, 32), "fourierft(n_frequency=1000)", 64_000),
        ((5120, 40), "lora(r=64)", 52_428_800),  # 52.4 M
        ((5120, 40), "fourierft(n_frequency=2000)", 160_000),
    ],
)
def test_llama_2(shape, expression, count):
    assert reported(expression, lambda: llama_2(*shape)) == count


def test_the_head_is_counted_apart():
    _, model, names, _ = adapted("lora", roberta)
    assert sum(p.numel() for p in head_parameters(model, names)) == 592_130


def test_loca_reports_coefficients_and_optimises_locations_too():
    method, model, names, setting = adapted("loca(n_frequency=1000)", roberta)
    sizes = {g.name: sum(p.numel() for p in g.parameters) for g in method.parameter_groups(model, names, setting)}
    assert method.reported_parameters(model, names) == sizes["adapter"] == 24_000
    assert sizes["adapter"] + sizes["locations"] == 72_000


# EfficientFT, Table 2, in millions with the head; its LoRA rows count the head twice.
@pytest.mark.parametrize(
    ("expression", "heads", "printed"),
    [
        ("dora(r=8)", 1, 0.90),
        ("dora(r=16)", 1, 1.20),
        ("dora(r=8,target_modules=[query,key,value])", 1, 1.06),
        ("dora(r=16,target_modules=[query,key,value])", 1, 1.51),
        ("lora(r=8)", 2, 1.48),
        ("lora(r=16)", 2, 1.77),
        ("lora(r=16,target_modules=[query,key,value])", 2, 2.07),
        ("full(target_modules=[query,value])", 1, 14.76),
        ("full(target_modules=[query,key,value])", 1, 21.85),
    ],
)
def test_the_counts_of_efficientft(expression, heads, printed):
    # Some rows are rounded, some cut off.
    assert (reported(expression, roberta) + heads * 592_130) / 1e6 == pytest.approx(printed, abs=0.01)


def test_full_fine_tuning_counts_the_whole_base_model():
    with torch.device("meta"):
        model = roberta()
    assert reported("full", roberta) == sum(p.numel() for p in model.parameters()) - 592_130


def test_bitfit():
    # BERT-tiny with two classes: 3,330 with the head of 258, by a public reimplementation; of BERT-large 0.08 %.
    def tiny():
        return BertForSequenceClassification(
            BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512, num_labels=2)
        )

    assert reported("bitfit", tiny) == 3_330 - 258
    large = reported("bitfit", lambda: BertForSequenceClassification(BertConfig(**LARGE)))
    assert large / 335e6 == pytest.approx(0.0008, abs=0.00005)


def test_the_linear_probe_reports_nothing():
    assert reported("linear_probe", roberta) == 0


def test_replora_reports_what_is_trained():
    # A block: two seeds of r, two first layers r -> h, outputs of width h + bias for two inputs and two outputs.
    r, h, d = 8, 48, 768
    assert reported("replora", roberta) == 12 * (2 * r + 2 * (r * h + h) + (h + 1) * 4 * d)


def test_adalora_reports_the_final_budget():
    method, model, names, setting = adapted("adalora(target_r=8)", roberta)
    assert method.reported_parameters(model, names) == 24 * 8 * (768 + 768 + 1)
    groups = method.parameter_groups(model, names, setting)
    assert sum(p.numel() for p in groups[0].parameters) == 24 * 12 * (768 + 768 + 1)
