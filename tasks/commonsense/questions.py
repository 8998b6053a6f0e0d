"""A multiple-choice question in its three forms: the hub's columns, LLM-Adapters' instruction, and their content.

A set of questions is read in either form and can be written in either, so that the text that is trained on and the
documents that lm-eval scores are the same rows. An instruction holds everything that lm-eval shows except
the passages of BoolQ, which LLM-Adapters leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from parbench.bench.util.errors import UserError
from parbench.tasks.data.labels import class_id
from parbench.tasks.data.source import DataRef
from parbench.tasks.lm_eval_bridge import Benchmark

Row = Mapping[str, Any]


class Asked(NamedTuple):
    """The content of a question.

    Attributes:
        stem: the question, or the sentence to complete.
        choices: the answers to choose from.
        label: index of the right one.
    """

    stem: str
    choices: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Wording:
    """How LLM-Adapters words a set's questions.

    Attributes:
        ask: text before the question.
        choice: name of a choice: the second ``solution`` is ``Solution2: ...``, and ``solution2`` as an answer.
        between: text between two choices.
        after: text after the last.
        most: most choices that its evaluation knows.
    """

    ask: str
    choice: str
    between: str = " "
    after: str = "\n\n"
    most: int = 4

    def names(self, count: int) -> tuple[str, ...]:
        """Return the names of the answers."""
        return tuple(f"{self.choice}{number}" for number in range(1, count + 1))

    @property
    def known(self) -> tuple[str, ...]:
        """Every answer that can be found in a generated text."""
        return self.names(self.most)

    def instruction(self, asked: Asked) -> str:
        """Return the instruction that asks the question."""
        names = self.names(len(asked.choices))
        listed = self.between.join(
            f"{name.capitalize()}: {text}" for name, text in zip(names, asked.choices, strict=True)
        )
        return f"{self.ask}{asked.stem}\n\n{listed}{self.after}Answer format: {'/'.join(names)}"

    def asked(self, instruction: str, answer: Any) -> Asked | None:
        """Return the content of an instruction; ``None`` if it is not of this set. The inverse of `instruction`.

        Args:
            instruction: the text.
            answer: the name of the right choice, as a file has it.

        Raises:
            UserError: the answer is none of the choices; the message continues one that names the row.
        """
        names = tuple(instruction.rpartition("Answer format: ")[2].split("/"))
        if names != self.names(len(names)):
            return None
        found = _pattern(self, len(names)).fullmatch(instruction)
        return Asked(found[1], found.groups()[1:], self._label(answer, names)) if found else None

    def place(self, answer: Any, names: Sequence[str]) -> int | None:
        """Return the place of an answer among the names of the choices, which are not mistaken for their numbers."""
        return list(names).index(answer) if answer in names else None

    def _label(self, answer: Any, names: Sequence[str]) -> int:
        place = self.place(answer, names)
        if place is None:
            raise UserError(f"has the answer {answer!r}, which must be one of {', '.join(names)}")
        return place

    def answered(self, text: str) -> str:
        """Return the first answer that a text names, as LLM-Adapters' evaluation finds it; ``""`` if it names none."""
        found = re.search("|".join(self.known), text)
        return found[0] if found else ""


@dataclass(frozen=True)
class YesOrNo(Wording):
    """How LLM-Adapters words BoolQ: the choices are not listed."""

    def names(self, count: int) -> tuple[str, ...]:
        """Return them in the order of the labels."""
        return ("false", "true")

    def instruction(self, asked: Asked) -> str:
        """Return the instruction that asks the question."""
        return f"{self.ask}{asked.stem}{self.after}Answer format: true/false"

    def asked(self, instruction: str, answer: Any) -> Asked | None:
        """Return the content of an instruction; ``None`` if it is not of this set. The inverse of `instruction`.

        Raises:
            UserError: the answer is no truth value; the message continues one that names the row.
        """
        end = f"{self.after}Answer format: true/false"
        if not instruction.startswith(self.ask) or not instruction.endswith(end):
            return None
        stem = instruction[len(self.ask) : len(instruction) - len(end)]
        return Asked(stem, self.known, self._label(answer, self.known))

    def place(self, answer: Any, names: Sequence[str]) -> int | None:
        """Return the place of a truth value, which a file may hold as one, as a word in any case, or as 0 and 1."""
        return class_id(answer, names)


@cache
def _pattern(wording: Wording, count: int) -> re.Pattern[str]:
    names = wording.names(count)
    listed = re.escape(wording.between).join(f"{re.escape(name.capitalize())}: (.*?)" for name in names)
    after = re.escape(f"{wording.after}Answer format: {'/'.join(names)}")
    return re.compile(f"{re.escape(wording.ask)}(.*?)\n\n{listed}{after}", re.DOTALL)


@dataclass(frozen=True)
class Columns:
    """The hub's columns of a set's questions, which lm-eval reads.

    Attributes:
        names: the columns that lm-eval needs besides the label; other columns are left out.
        asked: reads a row.
        row: writes one that lm-eval shows like the original; ``None`` where an instruction does not hold all of it.
        label: lm-eval's column of the right choice.
        labels: its values by the number of the choice, as lm-eval reads them.
        other_label: another name that the column may have.
        written: writes a row in the types that lm-eval reads, where each row has labels of its own.
    """

    names: tuple[str, ...]
    asked: Callable[[Row], Asked]
    row: Callable[[Asked], dict[str, Any]] | None
    label: str
    labels: tuple[Any, ...] = ()
    other_label: str | None = None
    written: Callable[[Row], dict[str, Any]] | None = None

    @property
    def described(self) -> str:
        """The columns, for a message."""
        return ", ".join((*self.names, self.label))

    def needed(self, present: Collection[str]) -> tuple[str, ...]:
        """Return the columns that a file with the columns ``present`` must have."""
        return self.names if self.other_label in present else (*self.names, self.label)

    def document(self, row: Row) -> dict[str, Any]:
        """Return the part of a row that lm-eval needs."""
        if self.written:
            return self.written(row)
        return {**{name: row[name] for name in self.names}, self.label: self.labels[self.asked(row).label]}


def label_of(value: Any, labels: Sequence[Any]) -> int:
    """Return the place of a value among labels, whatever types a file has made of them.

    Raises:
        UserError: it is none of them; the message continues one that names the row.
    """
    names = [str(label) for label in labels]
    place = class_id(value, names)
    if place is None:
        raise UserError(f"has the label {value!r}, which must be one of {', '.join(names)}")
    return place


@dataclass(frozen=True)
class CommonsenseSet:
    """One of the eight sets.

    Attributes:
        name: the subset of a score.
        wording: its form in LLM-Adapters' files.
        columns: its form on the hub.
        benchmark: its task in lm-eval.
        data: its places: LLM-Adapters' files, and the hub.
    """

    name: str
    wording: Wording
    columns: Columns
    benchmark: Benchmark
    data: tuple[DataRef, ...]

    def document(self, row: Row) -> dict[str, Any] | None:
        """Return a row in the hub's columns, from either form; ``None`` where an instruction does not hold them all."""
        if "instruction" not in row:
            return self.columns.document(row)
        return self.columns.row(self.asked(row)) if self.columns.row else None

    def asked(self, row: Row) -> Asked:
        """Return the content of a row, in either form.

        Raises:
            UserError: it cannot be read; the message continues one that names the row.
        """
        if "instruction" in row:
            text = row["instruction"]
            found = self.wording.asked(text, row["answer"]) if isinstance(text, str) else None
            if found is None:
                raise UserError("is not worded as LLM-Adapters words this set")
            return found
        try:
            asked = self.columns.asked(row)
        except UserError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"cannot be read from its columns {self.columns.described}") from error
        if not all(isinstance(text, str) for text in (asked.stem, *asked.choices)):
            raise UserError("has a question or a choice that is not text")
        if asked.label not in range(len(asked.choices)):
            raise UserError("has a label that is not one of its choices")
        return asked
