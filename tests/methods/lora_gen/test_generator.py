"""Router, experts and loss, against the equations written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from parbench.methods.lora_gen import LoraGen, LoraGenConfig
from parbench.methods.lora_gen.experts import DirectHead, ExpertPool
from parbench.methods.lora_gen.loss import load_balance
from parbench.methods.lora_gen.router import Router, keep_top_k

SHAPES = {"mlp.up": (5, 7), "mlp.down": (7, 5)}


def router(**options: object) -> Router:
    return Router(6, LoraGenConfig(**{"experts": 4, "router_hidden": 3} | options)).double()


def states(count: int) -> Tensor:
    return torch.randn(count, 6, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 8])
def test_k_gates_sum_to_one(k: int) -> None:
    probabilities = torch.randn(50, 8, dtype=torch.float64).softmax(dim=1)
    gates = keep_top_k(probabilities, k)
    assert ((gates > 0).sum(dim=1) == k).all()
    torch.testing.assert_close(gates.sum(dim=1), torch.ones(50, dtype=torch.float64))
    for row, kept in zip(probabilities, gates, strict=True):
        largest = sorted(row.tolist())[-k:]
        expected = [p / sum(largest) if p in largest else 0.0 for p in row.tolist()]
        torch.testing.assert_close(kept.tolist(), expected)


def test_router_is_equation_3() -> None:
    model, x = router(), states(5)
    inner = x @ model.f1.weight.T + model.f1.bias
    logits = (inner * inner.sigmoid()) @ model.f2.weight.T + model.f2.bias
    normal = (logits - logits.mean(dim=0)) / (logits.var(dim=0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(model.train()(x), keep_top_k(normal.softmax(dim=1), 2))
    # One step of the running statistics, from mean 0 and variance 1.
    running = (logits - 0.1 * logits.mean(dim=0)) / (0.9 + 0.1 * logits.var(dim=0) + 1e-5).sqrt()
    torch.testing.assert_close(model.eval()(x), keep_top_k(running.softmax(dim=1), 2))
    bare = router(router_norm="none")
    bare.load_state_dict({k: v for k, v in model.state_dict().items() if "norm" not in k})
    torch.testing.assert_close(bare(x), keep_top_k(logits.softmax(dim=1), 2))


def test_training_batch_of_one_uses_running_statistics() -> None:
    model = router()
    model.train()(states(5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = states(1)
    gates = model(x)
    torch.testing.assert_close(gates, model.eval()(x))
    torch.testing.assert_close(model.state_dict(), before)
    (gates.max()).backward()
    assert model.f1.weight.grad is not None
    assert model.f1.weight.grad.abs().sum() > 0


def test_gumbel_noise_in_training_only() -> None:
    model, x = router(routing="gumbel", router_norm="none"), states(1).expand(4000, 6)
    plain = router(router_norm="none")
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(x), plain(x))
    gates = model.train()(x)
    assert ((gates > 0).sum(dim=1) == 2).all()
    # The Gumbel-max trick: the largest noisy logit is a draw from the softmax of the logits.
    logits = plain.f2(torch.nn.functional.silu(plain.f1(x[0])))
    frequency = torch.bincount(gates.argmax(dim=1), minlength=4) / len(x)
    torch.testing.assert_close(frequency.double(), logits.softmax(dim=0), atol=0.03, rtol=0)


@pytest.mark.parametrize("mixing", ["parameters", "products"])
def test_experts_are_mixed_as_written(mixing: str) -> None:
    pool = ExpertPool(SHAPES, LoraGenConfig(experts=4, r=3, mixing=mixing)).double()
    for b in pool.lora_B.values():
        torch.nn.init.normal_(b)
    gates = keep_top_k(torch.randn(6, 4, dtype=torch.float64).softmax(dim=1), 2)
    for name, factors in pool(gates).items():
        a, b = (each[name.replace(".", "_")] for each in (pool.lora_A, pool.lora_B))
        assert factors.a.shape[1] == (3 if mixing == "parameters" else 6)
        for s in range(6):
            if mixing == "parameters":
                expected = sum(gates[s, j] * b[j] for j in range(4)) @ sum(gates[s, j] * a[j] for j in range(4))
            else:
                expected = sum(gates[s, j] * b[j] @ a[j] for j in range(4))
            torch.testing.assert_close(factors.b[s] @ factors.a[s], expected)


def test_one_expert_of_weight_one_is_itself_in_both_mixings() -> None:
    gates = torch.eye(4, dtype=torch.float64)
    updates = []
    for mixing in ("parameters", "products"):
        torch.manual_seed(0)
        pool = ExpertPool(SHAPES, LoraGenConfig(experts=4, top_k=1, r=3, mixing=mixing)).double()
        for b in pool.lora_B.values():
            torch.nn.init.normal_(b)
        updates.append({name: factors.b @ factors.a for name, factors in pool(gates).items()})
    torch.testing.assert_close(updates[0], updates[1])


def test_start_is_loras() -> None:
    pool = ExpertPool({"up": (400, 7)}, LoraGenConfig())
    assert not pool.lora_B["up"].any()
    assert pool.lora_A["up"].abs().max() <= 400**-0.5
    torch.testing.assert_close(pool.lora_A["up"].var().item(), 1 / (3 * 400), rtol=0.05, atol=0)
    factors = DirectHead(6, {"up": (400, 7)}, LoraGenConfig())(torch.randn(2, 6))["up"]
    assert not factors.b.any()
    torch.testing.assert_close(factors.a.var().item(), 1 / (3 * 400), rtol=0.3, atol=0)


@pytest.mark.parametrize(("n", "k"), [(8, 2), (8, 1), (4, 3)])
def test_balance_of_one_sample(n: int, k: int) -> None:
    gates = torch.zeros(1, 3, n, dtype=torch.float64)
    gates[:, :, :k] = 1 / k
    assert load_balance(gates, LoraGenConfig()).item() == pytest.approx(0.01 * (n / k - 1))


def test_balance_of_evenly_used_experts_is_zero() -> None:
    assert load_balance(torch.eye(4)[:, None, :], LoraGenConfig()).item() == 0.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Importances (3, 1) have mean 2 and variance 1; (2, 2) none: 1/4 and 0.
        ({}, 0.01 * (1 / 4 + 0) / 2),
        ({"balance_layers": "sum"}, 0.01 * 1 / 4),
        ({"balance_std": "unbiased"}, 0.01 * (2 / 4 + 0) / 2),
        ({"balance_coefficient": 0.5}, 0.5 * (1 / 4 + 0) / 2),
    ],
)
def test_balance_by_hand(options: dict[str, object], expected: float) -> None:
    first, second = torch.tensor([[1.0, 0], [0.75, 0.25], [0.75, 0.25], [0.5, 0.5]]), torch.full((4, 2), 0.5)
    gates = torch.stack([first, second], dim=1)
    config = LoraGenConfig(**{"experts": 2} | options)
    assert load_balance(gates, config).item() == pytest.approx(expected)


def test_autocast_changes_no_factor(build: Callable[..., LoraGen]) -> None:
    model = build(started=True).float()
    x = torch.randn(3, 2, 24)
    plain = model.generator(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.generator(x)
    torch.testing.assert_close(mixed.gates, plain.gates, rtol=0, atol=0)
    torch.testing.assert_close(mixed.layers[0]["mlp.up_proj"].b, plain.layers[0]["mlp.up_proj"].b, rtol=0, atol=0)
