"""Reads the YAML of users: plain values only, without aliases or tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading
from parbench.bench.util.yaml import UniqueKeysLoader, read_yaml

# No description of a task is longer; what is, is something else.
MOST_BYTES = 256 * 1024


class _PlainLoader(UniqueKeysLoader):
    """The same without aliases, of which a few lines can make gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not allowed", mark)
        return super().compose_node(parent, index)


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file that holds fields with values.

    Raises:
        UserError: there is no such file, or it holds anything else.
    """
    with reading(path):
        if not path.is_file():
            raise UserError(f'there is no task file "{path}"')
    try:
        content = path.read_bytes()
        if len(content) > MOST_BYTES:
            raise UserError(f'the task file "{path}" has {len(content)} bytes, and a task needs a few hundred')
        found = read_yaml(content.decode("utf-8"), _PlainLoader)
    except UnicodeDecodeError as error:
        raise UserError(f'the task file "{path}" is not in UTF-8; save it as UTF-8') from error
    except OSError as error:
        raise UserError(f'the task file "{path}" cannot be read ({error.strerror})') from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f'the task file "{path}" is not plain YAML: {error}') from error
    if not isinstance(found, dict):
        raise UserError(
            f'the task file "{path}" holds {"nothing" if found is None else f"a {type(found).__name__}"}; it must hold '
            "fields such as name, kind and data"
        )
    if wrong := next((key for key in found if not isinstance(key, str)), None):
        raise UserError(f'the task file "{path}" has the field {wrong!r}, which is not a text')
    return found
