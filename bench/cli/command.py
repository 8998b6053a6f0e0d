"""Commands that say in one sentence which option they lack, and which is given twice.

Of one that is given twice, the first value would be dropped silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from parbench.bench.cli.unknown_option import refuse_unknown
from parbench.bench.util.errors import UserError


class CheckedCommand(TyperCommand):
    """A command that refuses an option which it lacks, or which is given twice, unless each of its values counts."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments into the context.

        Raises:
            UserError: an option is unknown, or given twice.
        """
        refuse_unknown(
            args, [name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts)]
        )
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, times in Counter(order).items():
            if times > 1 and parameter.param_type_name == "option" and not getattr(parameter, "multiple", False):
                listed = "," in (parameter.metavar or "")
                advice = "give it once, with its values separated by commas" if listed else "give it once"
                raise UserError(f"{parameter.opts[0]} is given {'twice' if times == 2 else f'{times} times'}; {advice}")
        return super().parse_args(ctx, args)


class CommandLine(typer.Typer):
    """A group of such commands."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Return the decorator that makes a function a command, as Typer's own does."""
        return super().command(name, cls=CheckedCommand, **settings)
