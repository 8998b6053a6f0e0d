"""The measurement runs, and its arithmetic is right; how long anything takes is not tested."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.perf.lora_gen_latency import IN_CONTEXT, Lengths, answering, break_even, main, random_model, table

pytestmark = pytest.mark.slow

ONCE = "once per prompt: cloud and generator", "once per prompt: merging"


def test_the_table_by_hand() -> None:
    seconds = {"a": [0.1, 0.2, 0.4], "b": [0.2, 0.2, 0.2]}
    assert table(seconds, "b").splitlines()[2:] == [
        "| a | 200.0 (100.0-400.0) | 1.000 (0.500-2.000) |",
        "| b | 200.0 (200.0-200.0) | 1.000 (1.000-1.000) |",
    ]
    assert Lengths(prompt=200, input=100).context_ratio == pytest.approx(1 / 3)


def test_when_the_cost_of_the_generator_is_recovered() -> None:
    seconds = {IN_CONTEXT: [3.0, 3.0], "LoRA merged": [1.0, 1.0], ONCE[0]: [4.0, 4.0], ONCE[1]: [1.0, 1.0]}
    assert break_even(seconds) == 2.5
    assert break_even({**seconds, "LoRA merged": [3.0, 3.0]}) is None


def test_each_variant_reads_its_own_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    edge = random_model(1, seed=0)
    inner = type(edge).forward
    monkeypatch.setattr(
        type(edge),
        "forward",
        lambda self, input_ids=None, **named: seen.append(tuple(input_ids.shape)) or inner(self, input_ids, **named),
    )
    lengths = Lengths(prompt=20, input=10, batch=2)
    variants = answering(copy.deepcopy(edge), edge, lengths)
    before = {name: p.clone() for name, p in edge.named_parameters()}
    for call in variants.values():
        call()
    # The cloud is asked without its head.
    assert seen == [(2, 30), (2, 10), (2, 10)]
    assert all(torch.equal(p, before[name]) for name, p in edge.named_parameters())


def test_the_command_writes_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--layers", "1", "--prompt", "12", "--input", "4", "--new", "2", "--rounds", "2", "--training"])
    out = capsys.readouterr().out
    assert "context left: 25%" in out
    for name in (IN_CONTEXT, "LoRA merged", "LoRA beside the weights", *ONCE, "training step: LoRA-Gen"):
        assert f"| {name} | " in out
