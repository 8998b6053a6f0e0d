"""Configuration of RepLoRA (Truong et al., ICML 2025, arXiv:2502.03044)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from parbench.methods.from_peft.registration import ensure_peft_type
from parbench.methods.from_peft.tuner import TunerConfig

Activation = Literal["identity", "relu", "tanh", "gelu", "silu"]
SeedKind = Literal["diagonal", "full", "identity"]
SeedStart = Literal["normal", "identity"]


@dataclass
class RepLoraConfig(TunerConfig):
    """RepLoRA: the LoRA factors A and B are not free parameters but the outputs of two small MLPs.

    In every attention block two trainable seeds pass through two MLPs, the generators; query and value take their
    factors from separate output layers of the same generators (equations: `Generator`). The generators do not depend on
    data, so after training they are evaluated once: `export_lora` writes an ordinary LoRA adapter.

    Sources. The abstract states that lightweight MLPs reparameterize the LoRA matrices. Official code is not available,
    and this implementation has not been checked against the body of the paper: INFERRED marks a choice among possible
    readings, kept as an option so that the authors' variant can be selected.
    "The prefix code" is the official code of an earlier paper by most of the same authors, arXiv:2410.02200,
    which reparameterizes prefix-tuning: in each layer, `Linear(d, 48), Tanh, Linear(48, 2d)` makes the keys
    and values of the prefix, or `Linear(d, 2d), Tanh`.

    Args:
        r: rank of the update, and of the exported LoRA.
        lora_alpha: the update is multiplied by ``lora_alpha / r``. INFERRED from LoRA.
        hidden: width h of the generators' hidden layer; unused with ``depth=1``. The number of
            trainable parameters is about that of a LoRA of rank h (`parameter_count`). INFERRED: 48 as in the prefix
            code.
        depth: layers of a generator. 2: a first layer of width h, then an output layer for each projection.
            1: one layer for each projection, straight from the seed. INFERRED: both occur in the
            prefix code.
        activation: follows the first layer; ``"identity"`` gives the paper's linear version. INFERRED: tanh
            as in the prefix code.
        seed: ``"diagonal"`` trains r numbers per seed, ``"full"`` an r x r matrix, ``"identity"`` freezes the
            seed at the identity. INFERRED: summaries of the paper speak of trainable diagonal seeds.
        seed_start: ``"normal"``: normal entries, rows of expected squared norm 1; ``"identity"``: the
            identity. INFERRED.
        share_first_layer: the projections of one block share seeds and first layer; otherwise each has its
            own. A block is the module that holds the projections, such as the attention module that holds
            query and value; a fused QKV projection is alone in its block and shares nothing. With
            ``depth=1`` only the seeds can be shared. INFERRED: summaries of the paper speak of an MLP shared
            by Q and V.
        share_across_layers: all blocks use one pair of generators, output layers included, and differ in
            their seeds only; projections of equal name must then have equal shapes, and a frozen seed makes
            all blocks equal. INFERRED: off, as in the prefix code.
        generator_bias: bias vectors in the generators. INFERRED: on, as in the prefix code.
        dropout: probability of dropping an input of the low-rank path, as LoRA's ``lora_dropout``. INFERRED.
        target_modules: names or regular expression of the `nn.Linear` and `Conv1D` modules to adapt; by
            default query and value of each attention block, or the fused projection of models that have one.
        exclude_modules: names or regular expression of modules that are not adapted.
        layers_to_transform: index or indices of the layers to adapt; by default all.
        layers_pattern: name of the module list in which ``layers_to_transform`` counts.
        modules_to_save: further modules to train and save whole, such as a classification head.
        init_weights: True: B's output layers are zero, so that training starts at the pretrained function,
            and A's give its entries the variance that they have in LoRA; INFERRED. False: B is random too,
            for tests.

    Raises:
        ValueError: a value is out of range, or two options contradict each other.
    """

    import_name: ClassVar[str | None] = "parbench.methods.replora"

    r: int = 8
    lora_alpha: int = 8
    hidden: int = 48
    depth: Literal[1, 2] = 2
    activation: Activation = "tanh"
    seed: SeedKind = "diagonal"
    seed_start: SeedStart = "normal"
    share_first_layer: bool = True
    share_across_layers: bool = False
    generator_bias: bool = True
    dropout: float = 0.0
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | set[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    init_weights: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = ensure_peft_type("replora")
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)
        self._check_values()
        self._check_combinations()

    def _check_values(self) -> None:
        for name in ("r", "hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"RepLoraConfig: {name}={value!r}; give an integer of at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"RepLoraConfig: dropout={self.dropout!r}; give a probability in [0, 1)")
        choices: dict[str, tuple[object, ...]] = {
            "depth": (1, 2),
            "activation": get_args(Activation),
            "seed": get_args(SeedKind),
            "seed_start": get_args(SeedStart),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                known = ", ".join(map(repr, allowed))
                raise ValueError(f"RepLoraConfig: {name}={value!r}; choose one of {known}")

    def _check_combinations(self) -> None:
        if self.depth == 1 and self.activation == "relu" and self.init_weights:
            # B would be relu(0), whose gradient is zero: B would never train.
            raise ValueError(
                "RepLoraConfig: with depth=1 and activation='relu' B can never leave zero; "
                "choose another activation or depth=2"
            )
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise ValueError(
                "RepLoraConfig: layers_to_transform has no effect on a regular expression; "
                "give target_modules as a list, or name the layers in the expression"
            )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("RepLoraConfig: layers_pattern needs layers_to_transform; give both or neither")
