"""What was measured of a trained adapter: what it can be used for."""

from __future__ import annotations

from dataclasses import dataclass, field

AS_LOADED = "as loaded"
"""The target of a conversion that is none: the adapter itself, loaded again and scored again."""


def target_name(size: int | float) -> str:
    """Return the target of a conversion as records and cards call it: a rank in digits, a share of energy in full."""
    return repr(size)


def size_in_words(size: int | float) -> str:
    """Return what a conversion keeps, in words."""
    return f"rank {size}" if isinstance(size, int) else f"a share of {size!r} of each update's energy"


@dataclass(frozen=True)
class Merge:
    """Merging an adapter into base weights of one dtype.

    Attributes:
        dtype: of the weights.
        difference: largest change of a logit by merging; ``None`` where it cannot be merged.
        largest: largest logit.
        reason: why it cannot be merged.
    """

    dtype: str
    difference: float | None = None
    largest: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Conversion:
    """An adapter converted to LoRA, scored on the examples that the run was scored on.

    Attributes:
        target: the rank; the share of energy that is kept; or `AS_LOADED`.
        ranks: least and largest rank of a module.
        bytes: of the adapter file.
        error: Frobenius norm of what is lost of the updates, as a share of theirs.
        rows: file of the per-example rows; ``None`` where there are none.
        reason: why it cannot be converted, or not be scored.
    """

    target: str
    ranks: tuple[int, int] | None = None
    bytes: int | None = None
    error: float | None = None
    rows: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Deployment:
    """What can be done with the adapter of one run.

    Attributes:
        run_id: the run.
        kind: type of the adapter in peft; empty where weights of the base model were trained.
        rank: of a LoRA, the largest of its modules.
        variant: what a LoRA has beside its factors, such as ``dora``, joined by commas; empty for a plain one.
        targets: last names of the adapted modules.
        whole_modules: modules that are saved whole, such as the task head.
        adapter_bytes: of the adapter file.
        merges: by dtype.
        plain_peft: why a process with peft and without parbench cannot load it; empty where it can, and gets the same
            logits.
        switched: why a second adapter cannot be loaded beside it and switched to; empty where it can.
        mixed: why one batch cannot use several adapters; empty where it can.
        unmerged_seconds: of one example, median.
        merged_seconds: likewise, merged.
        conversions: to LoRA.
        made: when.
        hardware: where.
        versions: of the libraries.
        adapter: digest of the files of the adapter that was measured.
        files: sha256 of the files beside this, by path: per-example rows, and the converted adapters in folders.
    """

    run_id: str
    kind: str
    rank: int | None
    variant: str
    targets: tuple[str, ...]
    whole_modules: tuple[str, ...]
    adapter_bytes: int
    merges: tuple[Merge, ...]
    plain_peft: str
    switched: str
    mixed: str
    unmerged_seconds: float
    merged_seconds: float | None
    conversions: tuple[Conversion, ...]
    made: str
    hardware: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    adapter: str = ""
    files: dict[str, str] = field(default_factory=dict)
