"""What engines load of each variant of a LoRA, as their sources state it."""

import pytest
from peft import LoraConfig

from parbench.bench.deploy.lora_variant import lora_rank, lora_variant
from parbench.reports.deployment.engines import known_engines, obstacles, unknown
from parbench.reports.recommend.serving import AdapterForm

ENGINES = {engine.name: engine for engine in known_engines().engines}


def form(**options):
    config = LoraConfig(r=8, target_modules=["q_proj"], **options)
    return AdapterForm("LORA", lora_rank(config), lora_variant(config), ("q_proj",), ())


@pytest.mark.parametrize("name", ENGINES)
def test_a_plain_lora_is_served_as_it_is(name):
    assert not list(obstacles(ENGINES[name], form()))
    assert not unknown(ENGINES[name], form())


@pytest.mark.parametrize(
    ("options", "words", "refusing", "unclear"),
    [
        ({"use_dora": True}, "DoRA", {"vLLM", "LoRAX", "llama.cpp"}, set()),
        # lora_alpha is the only scale that llama.cpp reads; LoRAX reads use_rslora.
        ({"use_rslora": True}, "rank-stabilised scales", {"llama.cpp"}, {"vLLM", "TensorRT-LLM"}),
        # Of the tensors of an adapter TensorRT-LLM, LoRAX and llama.cpp read no bias.
        ({"bias": "lora_only"}, "biases", {"TensorRT-LLM", "LoRAX", "llama.cpp"}, {"vLLM"}),
        ({"rank_pattern": {"q_proj": 9}}, "ranks by module", {"LoRAX"}, {"vLLM", "TensorRT-LLM", "llama.cpp"}),
        ({"alpha_pattern": {"q_proj": 9}}, "scales by module", {"LoRAX", "llama.cpp"}, {"vLLM", "TensorRT-LLM"}),
    ],
)
def test_a_variant_is_refused_or_not_known_where_no_source_shows_it(options, words, refusing, unclear):
    found = form(**options)
    refused = {name for name, engine in ENGINES.items() if f"it loads no {words}" in obstacles(engine, found)}
    assert refused == refusing
    assert {name for name, engine in ENGINES.items() if words in unknown(engine, found)} == unclear


def test_a_lora_that_it_is_converted_to_has_no_variant():
    assert not list(obstacles(ENGINES["llama.cpp"], form(use_rslora=True, bias="lora_only"), 16))


def test_the_rank_is_the_largest_of_a_module():
    assert form(rank_pattern={"q_proj": 600}).rank == 600
    assert "rank 600 is over its 512" in obstacles(ENGINES["vLLM"], form(rank_pattern={"q_proj": 600}))
