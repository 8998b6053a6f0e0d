"""A claim of a paper, with the comparison that would show it, as a YAML file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from parbench.bench.budget.text import BudgetText
from parbench.bench.record.run_spec import Json, digest
from parbench.bench.util.errors import UserError
from parbench.bench.util.shipped_yaml import ShippedYaml
from parbench.bench.util.validation import validated

Kind = Literal["better", "not_worse", "equivalent", "reaches", "cheaper"]
Measure = Literal["step_seconds", "evaluation_seconds", "memory", "parameters"]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]

# In the units that tables show: points of an accuracy in percent.
SMALLEST_EFFECT = 1.0
WITH_MARGIN = ("not_worse", "equivalent", "reaches")
_FILES = ShippedYaml("claim", "reports/claims/*.yaml", "parbench.reports", "claims")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Strict):
    """Where a claim is stated."""

    paper: str = Field(description="authors, title, venue and year")
    link: str | None = Field(default=None, description="arXiv number or address")
    where: str = Field(description="abstract, or the table or section")
    read: Literal["paper", "abstract", "second-hand"] = Field(
        description="what was read for this file: the paper's text or table, its abstract alone, or a text about it"
    )

    def __str__(self) -> str:
        link = f" ({self.link})" if self.link else ""
        second = "; read second-hand" if self.read == "second-hand" else ""
        return f"{self.paper}{link}, {self.where}{second}"


class Side(_Strict):
    """One side of a comparison; what is left out is as in the set-up."""

    method: str = Field(description="a method expression, such as lora(r=4)+qv_ratio(4)")
    budget: BudgetText | None = Field(default=None, description="as --budget; none for no limit")
    train_fraction: Share | None = None
    steps: PositiveInt | None = Field(default=None, description="optimiser steps")
    sets: tuple[str, ...] = Field(default=(), description="as --set, in addition to those of the set-up")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    def __str__(self) -> str:
        parts = [f"budget {self.budget}"] if self.budget else []
        parts += [f"{100 * self.train_fraction:g} % of the training split"] if self.train_fraction else []
        parts += [f"{self.steps} steps"] if self.steps else []
        parts += self.sets
        return f"{self.method} ({', '.join(parts)})" if parts else self.method


class SetUp(_Strict):
    """The runs that test a claim. Everything that is not stated here is the suite's."""

    suite: str = Field(default="mini", description="name or YAML file")
    tasks: tuple[str, ...] = Field(min_length=1)
    base_model: str | None = Field(default=None, description="default: the suite's on each task")
    budget: BudgetText = Field(description="as --budget, of both sides; none for no limit")
    train_fraction: Share = 1.0
    steps: PositiveInt | None = Field(default=None, description="optimiser steps; default: the suite's")
    seeds: tuple[_Seed, ...] = Field(min_length=3, description="of both sides; no other run is judged")
    sets: tuple[str, ...] = Field(default=(), description="as --set, of both sides")
    limit: PositiveInt | None = None
    evaluation_limit: PositiveInt | None = Field(default=None, description="default: the suite's")

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds has a seed twice; give each once")
        return self


def sets_of(side: Side, here: SetUp) -> tuple[str, ...]:
    """Return what a side and its set-up set, as ``--set``; where both set one thing, the side's."""
    own = {text.partition("=")[0] for text in side.sets}
    return (*(text for text in here.sets if text.partition("=")[0] not in own), *side.sets)


class PaperSetUp(_Strict):
    """How the paper tested it: stated, never run."""

    base_model: str | None = None
    tasks: str | None = None
    seeds: PositiveInt | None = None
    selection: str | None = Field(default=None, description="how settings and epochs were chosen")
    sizes: str | None = Field(default=None, description="parameters of the methods")
    training: str | None = None
    unknown: str | None = Field(default=None, description="what could not be read")


class Claim(_Strict):
    """A claim: the difference is always the row minus each row that it is compared with.

    Attributes:
        kind: ``better``: by more than ``margin`` (0 by default). ``not_worse``: by less than ``margin``.
            ``equivalent``: within ``margin`` either way. ``reaches``: not worse than ``margin`` with fewer steps or a
            smaller share of the training split. ``cheaper``: costs at most ``factor`` times as much.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    claim: str = Field(description="in words")
    quoted: bool = Field(default=False, description="whether the words are the source's own")
    source: Source
    kind: Kind
    row: Side
    against: tuple[Side, ...] = Field(min_length=1, description="the claim must hold against each of them")
    over: Literal["mean", "each"] = Field(default="mean", description="of the tasks: their mean score, or each of them")
    metric: str | None = Field(
        default=None, description="the primary metric of each task, written out; no other is judged"
    )
    subsets: tuple[str, ...] = Field(
        default=(), description="of each task: its score is the mean of the primary metric over these; default: all"
    )
    margin: PositiveFloat | None = Field(default=None, description="in the units that tables show, such as points")
    smallest_effect: PositiveFloat | None = Field(
        default=None, description="what it should take to see, likewise; default: the margin, or 1"
    )
    measure: Measure | None = Field(default=None, description="what is compared of a cheaper")
    factor: PositiveFloat | None = Field(default=None, description="of a cheaper: the largest ratio of the costs")
    here: SetUp | None = Field(default=None, description="the set-up that is run")
    not_testable: str | None = Field(default=None, description="why there is none")
    paper: PaperSetUp = PaperSetUp()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sides: list[Side | SetUp] = [self.row, *self.against, *([self.here] if self.here else [])]
        for budget in (side.budget for side in sides):
            if budget and "," in re.sub(r"\(.*\)", "", budget):
                raise ValueError(f'the budget "{budget}" is several; give each side one')
        if (self.here is None) == (self.not_testable is None):
            raise ValueError("give either here, the set-up that is run, or not_testable, the reason why there is none")
        costs = (self.measure is not None, self.factor is not None)
        if costs != ((True, True) if self.kind == "cheaper" else (False, False)):
            raise ValueError('measure and factor belong to the kind "cheaper", which needs both')
        if self.kind in WITH_MARGIN and self.margin is None:
            raise ValueError(f'the kind "{self.kind}" needs a margin')
        if self.kind == "cheaper" and (self.margin or self.smallest_effect or self.metric or self.subsets):
            raise ValueError('margin, smallest_effect, metric and subsets do not belong to the kind "cheaper"')
        if self.metric and self.subsets:
            raise ValueError("subsets are scored by the primary metric of their task; leave metric out")
        if len(set(self.subsets)) < len(self.subsets):
            raise ValueError("subsets has a subset twice; give each once")
        names = [str(side) for side in (self.row, *self.against)]
        if len(set(names)) < len(names):
            raise ValueError("two sides are the same; give each once")
        if self.kind == "reaches" and self.here is not None:
            self._check_reaches(self.here)
        return self

    def _check_reaches(self, here: SetUp) -> None:
        for other in self.against:
            shares = [side.train_fraction or here.train_fraction for side in (self.row, other)]
            steps = [side.steps or here.steps for side in (self.row, other)]
            fewer = steps[0] is not None and steps[1] is not None and steps[0] < steps[1]
            if not (shares[0] < shares[1] or fewer):
                raise ValueError(
                    f'the kind "reaches" needs a row with fewer steps or a smaller train_fraction than {other.method}'
                )

    @property
    def words(self) -> str:
        """The claim in words, in quotation marks where they are the source's own."""
        return f'"{self.claim}"' if self.quoted else self.claim

    @property
    def comparison(self) -> str:
        """The comparison in words."""
        others = " and ".join(map(str, self.against)) if len(self.against) < 3 else ", ".join(map(str, self.against))
        if self.kind == "cheaper":
            measured = (self.measure or "").replace("_", " ")
            return f"{self.row} takes at most {self.factor:g} times the {measured} of {others}"
        by = f" by more than {self.margin:g}" if self.kind == "better" and self.margin else ""
        within = f"{self.margin or 0:g}"
        on = f" on {', '.join(self.subsets)}" if self.subsets else ""
        return {
            "better": f"{self.row} is better than {others}{by}",
            "not_worse": f"{self.row} is not worse than {others} by {within}",
            "equivalent": f"{self.row} is within {within} of {others}",
            "reaches": f"{self.row} is not worse than {others} by {within}",
        }[self.kind] + on


@dataclass(frozen=True)
class ClaimFile:
    """A claim as it was read.

    Attributes:
        claim: the claim.
        content: the values of the YAML file; its comments and layout do not count.
    """

    claim: Claim
    content: Json

    @property
    def sha256(self) -> str:
        """The hash of the content."""
        return digest(self.content)


def claim_names() -> list[str]:
    """Return the names of the claims that come with parbench."""
    return _FILES.names()


def load_claim(name: str) -> ClaimFile:
    """Return a claim by name or by the path of a YAML file.

    Raises:
        UserError: there is no such claim, or the file is not one.
    """
    if name in claim_names():
        return parse_claim(_FILES.shipped_text(name), name)
    return parse_claim(_FILES.own_text(name), name)


def load_claims(names: tuple[str, ...]) -> list[ClaimFile]:
    """Return claims by name or file.

    Raises:
        UserError: one cannot be read, or two have the same name.
    """
    found = [load_claim(name) for name in names]
    for place, one in enumerate(found):
        if any(one.claim.name == other.claim.name for other in found[:place]):
            raise UserError(f'two of the claims are called "{one.claim.name}"; rename one, or leave it out')
    return found


def parse_claim(text: str, origin: str) -> ClaimFile:
    """Parse a claim from YAML; ``origin`` is its name in error messages.

    Raises:
        UserError: it is not YAML, or not a claim.
    """
    return as_claim(_FILES.content(text, origin), f'the claim "{origin}"')


def as_claim(content: Json, what: str) -> ClaimFile:
    """Return the values of a YAML file as a claim; ``what`` is the subject of the sentence if they are not one.

    Raises:
        UserError: they are not.
    """
    return ClaimFile(validated(Claim, content, what), content)
