"""Options of LoRA-Gen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

CONFIG_FILE = "lora_gen_config.json"

Routing = Literal["keep_top_k", "gumbel", "direct"]
Mixing = Literal["parameters", "products"]
MetaEmbedding = Literal["shared", "distinct"]
RouterNorm = Literal["batch", "none"]
BalanceStd = Literal["biased", "unbiased"]
BalanceLayers = Literal["mean", "sum"]


@dataclass(frozen=True)
class LoraGenConfig:
    """Hyper-parameters of LoRA-Gen; the table in `parbench.methods.lora_gen` has the origin of each default.

    Args:
        experts: n, the LoRA experts of each edge layer.
        top_k: K, the number of experts that are mixed.
        r: rank of an expert.
        lora_alpha: an update is multiplied by ``lora_alpha / r``.
        lora_dropout: probability of dropping an input of the edge's low-rank path, in training.
        projections: the adapted modules of one edge layer, named relative to it, such as ``("fc1", "fc2")``; default:
            the feed-forward projections of Llama-like models, GPT-2 and OPT.
        routing: ``"keep_top_k"`` (equations 6 and 7); ``"gumbel"``: with Gumbel noise on the logits in training
            (equations 4 and 5, Table 8); ``"direct"``: a feed-forward network without experts (Table 9).
        mixing: ``"parameters"``: A and B are each the weighted sum of the experts', of rank r (equation 8);
            ``"products"``: the updates are, which gives rank K r.
        router_hidden: width between the two linear layers of a router.
        router_norm: ``"batch"``: BatchNorm over the batch (equation 3); ``"none"``.
        direct_hidden: width of the feed-forward network of ``routing="direct"``; default: `experts`, which makes its
            output layer as large as the expert pool.
        meta_embedding: ``"shared"``: one trained embedding, repeated; ``"distinct"``: one for each edge layer.
        cloud_r: rank of the cloud model's LoRA.
        cloud_alpha: its scale, as ``lora_alpha``.
        cloud_dropout: its dropout.
        cloud_target_modules: last parts of the names of the modules with the cloud's LoRA; default: query and value.
        balance_coefficient: alpha of equation 9.
        balance_std: whether the variance over n experts divides by n or by n - 1.
        balance_layers: reduction of the layers' losses.

    Raises:
        ValueError: a value is out of range, or two options contradict each other.
    """

    experts: int = 8
    top_k: int = 2
    r: int = 16
    lora_alpha: float = 16
    lora_dropout: float = 0.05
    projections: tuple[str, ...] | None = None
    routing: Routing = "keep_top_k"
    mixing: Mixing = "parameters"
    router_hidden: int = 256
    router_norm: RouterNorm = "batch"
    direct_hidden: int | None = None
    meta_embedding: MetaEmbedding = "shared"
    cloud_r: int = 16
    cloud_alpha: int = 16
    cloud_dropout: float = 0.05
    cloud_target_modules: tuple[str, ...] | None = None
    balance_coefficient: float = 0.01
    balance_std: BalanceStd = "biased"
    balance_layers: BalanceLayers = "mean"

    def __post_init__(self) -> None:
        for name in ("experts", "top_k", "r", "router_hidden", "cloud_r", "cloud_alpha"):
            self._check_positive(name)
        if not 0.0 < self.lora_alpha < float("inf"):
            raise ValueError(f"LoraGenConfig: lora_alpha={self.lora_alpha!r}; give a number above 0")
        if self.direct_hidden is not None:
            self._check_positive("direct_hidden")
        for name in ("lora_dropout", "cloud_dropout"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ValueError(f"LoraGenConfig: {name}={value!r}; give a probability in [0, 1)")
        if not 0.0 <= self.balance_coefficient < float("inf"):
            raise ValueError(f"LoraGenConfig: balance_coefficient={self.balance_coefficient!r}; give at least 0")
        choices: dict[str, tuple[str, ...]] = {
            "routing": get_args(Routing),
            "mixing": get_args(Mixing),
            "router_norm": get_args(RouterNorm),
            "meta_embedding": get_args(MetaEmbedding),
            "balance_std": get_args(BalanceStd),
            "balance_layers": get_args(BalanceLayers),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                known = ", ".join(map(repr, allowed))
                raise ValueError(f"LoraGenConfig: {name}={getattr(self, name)!r}; choose one of {known}")
        for name in ("projections", "cloud_target_modules"):
            value = getattr(self, name)
            if isinstance(value, str) or (value is not None and not value):
                raise ValueError(f"LoraGenConfig: {name}={value!r}; give a tuple of module names")
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        self._check_combinations()

    def _check_positive(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"LoraGenConfig: {name}={value!r}; give an integer of at least 1")

    def _check_combinations(self) -> None:
        if self.top_k > self.experts:
            raise ValueError(f"LoraGenConfig: top_k={self.top_k} of experts={self.experts}; choose at most all of them")
        if self.routing == "direct" and self.mixing == "products":
            raise ValueError("LoraGenConfig: routing='direct' has no experts to mix; leave mixing at 'parameters'")
        if self.routing != "direct" and self.direct_hidden is not None:
            raise ValueError("LoraGenConfig: direct_hidden needs routing='direct'; give both or neither")
        if self.balance_std == "unbiased" and self.experts == 1:
            raise ValueError("LoraGenConfig: one expert has no unbiased variance; choose balance_std='biased'")

    @property
    def scaling(self) -> float:
        """Factor on an update B A."""
        return self.lora_alpha / self.r

    @property
    def delivered_rank(self) -> int:
        """Rank of the LoRA that an edge model gets."""
        return self.r * self.top_k if self.mixing == "products" else self.r

    @property
    def delivered_alpha(self) -> float:
        """The ``lora_alpha`` that gives a LoRA of `delivered_rank` the same scaling; an integer where it is whole."""
        alpha = self.lora_alpha * self.delivered_rank / self.r
        return int(alpha) if float(alpha).is_integer() else alpha

    def save(self, folder: Path) -> None:
        """Write the options as JSON into an existing folder."""
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: the file does not exist, or is not a configuration of this version.
        """
        file = folder / CONFIG_FILE
        if not file.is_file():
            raise ValueError(f"{folder} has no {CONFIG_FILE}; name a folder that LoraGen.save_pretrained wrote")
        try:
            values: Any = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is not JSON ({error}); save the model again") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= known:
            unknown = ", ".join(sorted(set(values) - known)) if isinstance(values, dict) else "no options at all"
            raise ValueError(f"{file} is not of this version of LoRA-Gen: it has {unknown}")
        return cls(**values)
