"""YAML without duplicate keys, of which the safe loader silently keeps the last."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from parbench.bench.util.surrogates import lone_surrogate


class UniqueKeysLoader(yaml.SafeLoader):
    """The safe loader, which refuses duplicate keys and halves of characters."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a duplicate key."""
        given: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in given:
                    raise yaml.constructor.ConstructorError(None, None, f'"{key.value}" is given twice', key.start_mark)
                given.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Refuse half a character, which could not be written into a record."""
        found = super().construct_scalar(node)
        if half := lone_surrogate(found):
            problem = f"a text has half a character ({half}); write the whole character"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return found


def read_yaml(text: str, loader: type[yaml.SafeLoader] = UniqueKeysLoader) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        ValueError: the text is not YAML or has a duplicate key; the message names the problem and the line.
    """
    try:
        return yaml.load(text, loader)  # noqa: S506 -- a safe loader made stricter
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # of the date 1970-99-99, say, PyYAML has a plain ValueError
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{problem} (line {mark.line + 1})" if mark is not None else str(problem)) from error
