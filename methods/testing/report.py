"""What the checks of a method have found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Check:
    """One check of one method.

    Attributes:
        name: what was checked.
        reason: one sentence: the fault and the number found, or why the check does not apply; empty if it passed.
        cause: what was raised, with its traceback.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    cause: Exception | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason or self.outcome}"


class ConformanceError(AssertionError):
    """A method does not keep its contract; the message has one line for every failed check."""


@dataclass(frozen=True)
class ConformanceReport:
    """The checks of one method, in the order they were done.

    Attributes:
        method: its name.
        model: the tiny model of the checks that do not name another.
    """

    method: str
    model: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    def __getitem__(self, name: str) -> Check:
        """Return the check called ``name``; a `KeyError` if none is."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def raise_for_failures(self) -> None:
        """Raise where a check failed.

        Raises:
            ConformanceError: says what is wrong with the method.
        """
        if self.failures:
            faults = "\n".join(f"  {check}" for check in self.failures)
            message = f'the method "{self.method}" does not keep its contract on {self.model}:\n{faults}'
            raise ConformanceError(message) from self.failures[0].cause

    def __str__(self) -> str:
        lines = [f"{check.name:<12} {check.outcome:<14} {check.reason}".rstrip() for check in self.checks]
        return "\n".join([f'"{self.method}" on {self.model}', *lines])
