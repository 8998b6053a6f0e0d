"""The results of the checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class CheckOutcome(StrEnum):
    """Result of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Check:
    """One check of one method.

    Attributes:
        name: name of the check.
        reason: one sentence with the fault and the measured value, or why the check does not apply; empty if it passed.
        cause: the exception, with its traceback.
    """

    name: str
    outcome: CheckOutcome
    reason: str = ""
    cause: Exception | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason or self.outcome}"


class ConformanceError(AssertionError):
    """A method violates its contract; the message has one line per failed check."""


@dataclass(frozen=True)
class ConformanceReport:
    """The checks of one method, in order.

    Attributes:
        method: its name.
        model: the tiny model of all checks that are not named after another one.
    """

    method: str
    model: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is CheckOutcome.FAILED)

    def __getitem__(self, name: str) -> Check:
        """Return the check called ``name``.

        Raises:
            KeyError: that check was not done.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def raise_for_failures(self) -> None:
        """Raise if a check failed.

        Raises:
            ConformanceError: one or more checks failed.
        """
        if self.failures:
            faults = "\n".join(f"  {check}" for check in self.failures)
            message = f'the method "{self.method}" does not keep its contract on {self.model}:\n{faults}'
            raise ConformanceError(message) from self.failures[0].cause

    def __str__(self) -> str:
        lines = [f"{check.name:<12} {check.outcome:<14} {check.reason}".rstrip() for check in self.checks]
        return "\n".join([f'"{self.method}" on {self.model}', *lines])
