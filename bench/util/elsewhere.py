"""What other libraries call a setting: someone who comes from them finds its name here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Elsewhere:
    """Names of other libraries for what one kind of settings has, or has not.

    Attributes:
        renamed: the field by its name elsewhere.
        explained: what to do, in words, by the name elsewhere of what is no field here.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    explained: Mapping[str, str] = field(default_factory=dict)

    def known_as(self, name: str, fields: Collection[str]) -> str | None:
        """Return the field that has this name, here or else elsewhere; ``None`` where there is none."""
        here = name if name in fields else self.renamed.get(name)
        return here if here in fields else None

    def hint(self, name: str, fields: Collection[str]) -> str | None:
        """Return how a message on an unknown field goes on, or ``None`` where the name is not known either."""
        if here := self.known_as(name, fields):
            return f'; did you mean "{here}"?'
        words = self.explained.get(name)
        return f": {words}" if words else None
