"""Rows that share a prompt are scored and continued as whole rows are, with fewer tokens multiplied."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from parbench.bench.util.errors import DivergedError
from parbench.tasks.ending_rows import rows_may_leave
from parbench.tasks.inference import IGNORED, Predictor
from parbench.tasks.shared_prompts import common_head, shares_prompts

CPU = torch.device("cpu")
WORDS = 50
POSITIONS = 48
SMALL = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1, "initializer_range": 0.5}
HEAD = list(range(2, 22))


def llama() -> PreTrainedModel:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**SMALL, **sizes, num_hidden_layers=2, max_position_embeddings=POSITIONS))


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(**SMALL, n_embd=16, n_layer=2, n_head=4, n_positions=POSITIONS))


def prefix_tuned() -> Any:
    return get_peft_model(llama(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))


def sliding() -> PreTrainedModel:
    config = MistralConfig(**SMALL, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    config.num_key_value_heads, config.sliding_window = 2, 8
    return MistralForCausalLM(config)


def t5() -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=WORDS, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )


def bert() -> PreTrainedModel:
    config = BertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    return BertForMaskedLM(config)


def mamba() -> PreTrainedModel:
    return MambaForCausalLM(MambaConfig(vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, state_size=4))


@pytest.fixture(params=[llama, gpt2])
def model(request: pytest.FixtureRequest) -> Any:
    """Adapted, in float64."""
    torch.manual_seed(0)
    names = ["q_proj", "v_proj"] if request.param is llama else ["c_attn"]
    config = LoraConfig(target_modules=names, init_lora_weights=False, fan_in_fan_out=request.param is gpt2)
    return get_peft_model(request.param(), config).double().eval()


def row(prompt: list[int], choice: list[int]) -> tuple[list[int], list[int]]:
    return prompt + choice, [IGNORED] * len(prompt) + choice


QUESTIONS = {
    "choices": [
        row(prompt, choice) for prompt in ([*range(3, 17)], [*range(5, 35)]) for choice in ([7], [8, 9, 4], [8, 2])
    ],
    "one token each": [row([*range(3, 17)], [choice]) for choice in range(5, 11)],
    "few-shot": [row([*HEAD, *rest], [4, 30 + len(rest)]) for rest in ([40], [41, 42], [40, 43, 44])],
    "few-shot choices": [row([*HEAD, *rest], choice) for rest in ([40], [42, 41]) for choice in ([3], [4, 6])],
    "up to the last position": [
        row([*HEAD, *range(20)], [4, 5, 6, 7, 8, 9, 2, 3]),
        *[row([*HEAD, 3], [n]) for n in (4, 5)],
    ],
    "labels with gaps": [([*HEAD, 4, 5, 6], [IGNORED] * 20 + [4, IGNORED, end]) for end in (6, 7)],
}


def alone(model: Any, ids: list[int], labels: list[int]) -> list[float]:
    """The likelihood of one whole row, and the tokens that count."""
    logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    found = [float(logits[at - 1, label]) for at, label in enumerate(labels) if label != IGNORED]
    return [sum(found), len(found)]


def counted(model: Any) -> list[int]:
    """The tokens of each forward pass from now on."""
    seen: list[int] = []
    model.get_base_model().register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("name", QUESTIONS)
@torch.no_grad()
def test_likelihoods_are_those_of_whole_rows(model: Any, name: str, batch_size: int) -> None:
    rows = QUESTIONS[name]
    expected = [alone(model, ids, labels) for ids, labels in rows]
    batches, seen = [], counted(model)
    predictor = Predictor(model, None, pytest.fail, batch_size, CPU, on_batch=batches.append)  # type: ignore[arg-type]
    found = predictor.log_likelihoods(
        Dataset.from_dict({"input_ids": [a for a, _ in rows], "labels": [b for _, b in rows]})
    )
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert max(batches) <= batch_size
    assert sum(batches) == len(rows)
    if batch_size > 1:
        assert sum(seen) < 0.8 * len(rows) * max(len(ids) for ids, _ in rows)


def test_rows_that_share_little_are_read_whole(model: Any) -> None:
    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}

    rows = [row([2 + number, *range(3, 20)], [5, 6]) for number in range(4)]
    seen = counted(model)
    dataset = Dataset.from_dict({"input_ids": [a for a, _ in rows], "labels": [b for _, b in rows]})
    Predictor(model, None, collate, 4, CPU).log_likelihoods(dataset)
    assert seen == [4 * 20]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 3])
@torch.no_grad()
def test_texts_after_a_common_beginning_are_those_of_whole_prompts(model: Any, batch_size: int, beams: int) -> None:
    prompts = [[*HEAD, 40], [*HEAD, 41, 42, 43], [*HEAD, 44, 45], [*HEAD, 40, 2]]
    options = {"max_new_tokens": 8, "num_beams": beams, "do_sample": False}
    expected = []
    for prompt in prompts:
        written = model.generate(input_ids=torch.tensor([prompt]), pad_token_id=0, eos_token_id=1, **options)
        tokens = written[0, len(prompt) :].tolist()
        expected.append(tokens[: tokens.index(1)] if 1 in tokens else tokens)
    seen = counted(model)
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=1)
    assert Predictor(model, tokenizer, None, batch_size, CPU).generate(prompts, **options) == expected  # type: ignore[arg-type]
    # The beginning itself comes first, and no further pass reads it.
    assert seen[0] == len(HEAD)
    assert max(seen[1:]) <= batch_size * beams * 3


@pytest.mark.parametrize("shared", [0, 20])
@torch.no_grad()
def test_rows_that_have_ended_leave_the_batch(model: Any, shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parbench.tasks.ending_rows.AT_ONCE", 2)
    prompts = [[*HEAD[:shared], *rest] for rest in ([40], [41, 42, 43], [44, 45], [40, 2], [46], [47])]
    options = {"max_new_tokens": 15, "do_sample": False, "temperature": None}
    alone = [
        model.generate(input_ids=torch.tensor([prompt]), pad_token_id=0, eos_token_id=1, **options)
        for prompt in prompts
    ]
    texts = [tokens[0, len(prompt) :].tolist() for tokens, prompt in zip(alone, prompts, strict=True)]
    # Tokens that end some of the rows early, and not all.
    ends = [1, texts[0][3], texts[2][5]]
    expected = [text[: next((at for at, token in enumerate(text) if token in ends), 15)] for text in texts]
    assert len(set(map(len, expected))) > 1
    seen = counted(model)
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=ends)
    assert Predictor(model, tokenizer, None, 8, CPU).generate(prompts, **options) == expected  # type: ignore[arg-type]
    # A row computes at most one more call's tokens than it needs.
    assert (
        sum(seen)
        <= sum(min(len(text) + 3, 15) for text in expected) + shared + sum(len(p) - shared for p in prompts) * 3
    )


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"num_beams": 1, "temperature": None}, True),
        ({"num_beams": 2}, False),
        ({"do_sample": True}, False),
        ({"logits_processor": []}, False),
        ({"min_new_tokens": 3}, False),
    ],
)
def test_rows_leave_in_plain_greedy_search_only(changes: dict[str, Any], may: bool) -> None:
    assert rows_may_leave({"max_new_tokens": 4, "do_sample": False, **changes}) is may


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("default", [{"repetition_penalty": 1.8}, {"no_repeat_ngram_size": 1}, {"min_new_tokens": 12}])
@torch.no_grad()
def test_a_checkpoints_defaults_choose_no_tokens(default: dict[str, Any], beams: int) -> None:
    """Qwen2.5's chat models have a repetition penalty, BART forbids n-grams; a search without them was asked for."""
    torch.manual_seed(0)
    model = llama().double().eval()
    options = {"max_new_tokens": 15, "do_sample": False, "num_beams": beams}
    prompts = [[40, 41], [42, 43, 44, 45], [46], [47, 40, 40]]
    first = model.generate(input_ids=torch.tensor([prompts[0]]), pad_token_id=0, eos_token_id=None, **options)
    end = int(first[0, 6])
    tokens = SimpleNamespace(pad_token_id=0, eos_token_id=end)

    def by_transformers() -> list[list[int]]:
        rows = (torch.tensor([prompt]) for prompt in prompts)
        found = [model.generate(input_ids=row, pad_token_id=0, eos_token_id=end, **options)[0].tolist() for row in rows]
        return [row[len(prompt) :] for row, prompt in zip(found, prompts, strict=True)]

    expected = by_transformers()
    model.generation_config.update(**default)
    assert by_transformers() != expected

    found = Predictor(model, tokens, None, 4, CPU).generate(prompts, **options)  # type: ignore[arg-type]

    assert found == [row[: row.index(end)] if end in row else row for row in expected]
    assert model.generation_config.to_diff_dict().items() >= default.items()


@pytest.mark.parametrize(
    ("make", "shares"),
    [(llama, True), (gpt2, True), (prefix_tuned, False), (sliding, False), (t5, False), (bert, False), (mamba, False)],
)
def test_only_models_with_a_growing_cache_share(make: Callable[[], Any], shares: bool) -> None:
    assert shares_prompts(make()) is shares


@pytest.mark.parametrize(
    ("prompts", "head"),
    [
        ([[*HEAD, 1], [*HEAD, 2]], HEAD),
        ([HEAD, [*HEAD, 2]], HEAD[:-1]),
        ([[*HEAD[:10], 1], [*HEAD[:10], 2]], []),
        ([HEAD], []),
        ([], []),
    ],
    ids=["all of it", "one token is left behind it", "too short", "one prompt", "none"],
)
def test_the_common_head(prompts: list[list[int]], head: list[int]) -> None:
    assert common_head(prompts) == head


@pytest.mark.parametrize("options", [{"num_beams": 1}, {"num_beams": 3}, {"logits_processor": [], "num_beams": 1}])
@pytest.mark.parametrize("shared", [0, 20])
def test_a_model_whose_outputs_are_not_finite_writes_nothing(options: dict[str, Any], shared: int) -> None:
    """Of scores that are no numbers the first token would be chosen, and a diverged run be scored as a bad one."""
    model = llama()
    model.get_output_embeddings().weight.data[5] = torch.nan
    tokens = SimpleNamespace(pad_token_id=0, eos_token_id=1)
    predictor = Predictor(model, tokens, None, 2, CPU)  # type: ignore[arg-type]
    prompts = [[*HEAD[:shared], *rest] for rest in ([40], [41, 42], [43])]
    with pytest.raises(DivergedError, match="not finite"):
        predictor.generate(prompts, do_sample=False, max_new_tokens=4, **options)
