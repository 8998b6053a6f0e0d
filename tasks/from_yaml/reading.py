"""Reads the YAML that somebody wrote: plain values only, and no tricks."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from bench.errors import UserError
from tasks.data.refusal import readable

# No description of a task is longer; what is, is something else.
MOST_BYTES = 256 * 1024


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases, of which a few lines can make gigabytes, and without a key given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that is there twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f'"{twice}" is given twice', node.start_mark)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file that holds fields with values.

    Raises:
        UserError: there is no such file, or it holds anything else.
    """
    with readable(path):
        if not path.is_file():
            raise UserError(f'there is no task file "{path}"')
    try:
        content = path.read_bytes()
        if len(content) > MOST_BYTES:
            raise UserError(f'the task file "{path}" has {len(content)} bytes, and a task needs a few hundred')
        found = yaml.load(content.decode("utf-8"), _PlainLoader)  # noqa: S506 -- a safe loader made stricter
    except UnicodeDecodeError as error:
        raise UserError(f'the task file "{path}" is not in UTF-8; save it so') from error
    except OSError as error:
        raise UserError(f'the task file "{path}" cannot be read ({error.strerror})') from error
    except RecursionError as error:
        raise UserError(f'the task file "{path}" is nested too deeply for a task') from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'the task file "{path}" is not plain YAML: {_said(error)}') from error
    if not isinstance(found, dict):
        raise UserError(
            f'the task file "{path}" holds {"nothing" if found is None else f"a {type(found).__name__}"}; it must hold '
            "fields such as name, kind and data"
        )
    if wrong := next((key for key in found if not isinstance(key, str)), None):
        raise UserError(f'the task file "{path}" has the field {wrong!r}, which is no name')
    return found


def _said(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1})" if mark is not None else str(problem)
