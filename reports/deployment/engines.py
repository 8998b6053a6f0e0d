"""What serving engines load, and what that means for an adapter that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from parbench.bench.deploy.lora_variant import NAMES
from parbench.bench.util.validation import validated
from parbench.bench.util.yaml import read_yaml

_FILE = "engines.yaml"


class Evidence(BaseModel):
    """A source that was seen, and what it shows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shows: str
    url: str = Field(pattern=r"^https://")


class Engine(BaseModel):
    """Which adapters a serving engine loads; ``None`` where no source was seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    loads_lora: bool
    dora: bool | None = None
    rslora: bool | None = None
    bias: bool | None = None
    rank_pattern: bool | None = None
    alpha_pattern: bool | None = None
    whole_modules: tuple[str, ...] | None = Field(default=None, description="that may be saved whole in an adapter")
    most_rank: PositiveInt | None = None
    targets: tuple[str, ...] | None = Field(default=None, description="modules that it adapts, by their last names")
    evidence: tuple[Evidence, ...] = Field(min_length=1)


class Engines(BaseModel):
    """All engines, as they were on a date."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seen: date
    engines: tuple[Engine, ...] = Field(min_length=1)


@cache
def known_engines() -> Engines:
    """Return the engines that are known."""
    text = files("parbench.reports.deployment").joinpath(_FILE).read_text(encoding="utf-8")
    return validated(Engines, read_yaml(text), f"the file {_FILE}")


class Adapter(Protocol):
    """What an engine looks at; see `parbench.bench.record.deployment.Deployment`."""

    @property
    def kind(self) -> str:
        """Type in peft; empty where weights of the base model are trained."""

    @property
    def rank(self) -> int | None:
        """Of a LoRA, the largest of its modules."""

    @property
    def variant(self) -> str:
        """What a LoRA has beside its factors, see `parbench.bench.deploy.lora_variant`."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Last names of the adapted modules."""

    @property
    def whole_modules(self) -> tuple[str, ...]:
        """Modules that are saved whole."""


def obstacles(engine: Engine, found: Adapter, converted_rank: int | None = None) -> Iterator[str]:
    """Yield why an engine does not load an adapter, as far as sources show; see also `unknown`.

    Args:
        engine: the engine.
        found: the adapter.
        converted_rank: rank of the LoRA that it is converted to; ``None`` asks for the adapter as it is.
    """
    as_trained = converted_rank is None
    if as_trained and found.kind != "LORA":
        yield f"it loads no {found.kind or 'trained weights'}"
        return
    variants = _variants(found) if as_trained else []
    yield from (f"it loads no {NAMES[name]}" for name in variants if getattr(engine, name) is False)
    rank = found.rank if as_trained else converted_rank
    if rank is not None and engine.most_rank is not None and rank > engine.most_rank:
        yield f"rank {rank} is over its {engine.most_rank}"
    allowed = engine.whole_modules
    if allowed is not None and (whole := _beyond(found.whole_modules, allowed)):
        yield f"the adapter has {', '.join(whole)} whole"
    if engine.targets is not None and (others := _beyond(found.targets, engine.targets)):
        yield f"it adapts no {', '.join(others)}"


def unknown(engine: Engine, found: Adapter) -> Sequence[str]:
    """Return what an adapter has of which no source shows whether the engine loads it, in words."""
    return [NAMES[name] for name in _variants(found) if getattr(engine, name) is None]


def _variants(found: Adapter) -> list[str]:
    return found.variant.split(", ") if found.variant else []


def _beyond(names: Iterable[str], allowed: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names} - set(allowed))
