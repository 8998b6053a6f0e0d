"""Commands that say in one sentence what is wrong with the options and arguments that they are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from parbench.bench.cli.unknown_option import refuse_unknown
from parbench.bench.util.errors import UserError


class CheckedCommand(TyperCommand):
    """A command that refuses an option which it lacks or which is given twice, and the wrong number of arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments into the context.

        Raises:
            UserError: an option is unknown, or given twice; an argument is missing, or one too many.
        """
        options = [name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts)]
        refuse_unknown(args, options)
        values, arguments, order = self.make_parser(ctx).parse_args(args=list(args))
        _refuse_repeated(order)
        if not any(values.get(parameter.name) for parameter in self.get_params(ctx) if parameter.is_eager):
            self._check_arguments(ctx, args, values, arguments, options)
        return super().parse_args(ctx, args)

    def _check_arguments(
        self, ctx: Any, args: Sequence[str], values: dict[str, Any], left_over: Sequence[str], options: Collection[str]
    ) -> None:
        if left_over:
            advice = ""
            if any(word.endswith(",") for word in args) or left_over[0].startswith(","):
                advice = "; write a list without blanks, as lora,loca"
            elif "--out" in options and Path(left_over[0]).is_dir():
                advice = f"; did you mean --out {left_over[0]}?"
            raise UserError(f'"{left_over[0]}" is an argument too many for the command {ctx.info_name}{advice}')
        for parameter in self.params:
            if parameter.param_type_name == "argument" and parameter.required and values.get(parameter.name) is None:
                name = parameter.metavar or str(parameter.name).upper()
                meaning = str(getattr(parameter, "help", "")).rstrip(".")
                raise UserError(f"the command {ctx.info_name} needs an argument, {name}: {meaning}")


def _refuse_repeated(order: Sequence[Any]) -> None:
    """Refuse an option of one value that is given twice: the first value would be dropped silently."""
    for parameter, times in Counter(order).items():
        if times > 1 and parameter.param_type_name == "option" and not getattr(parameter, "multiple", False):
            listed = "," in (parameter.metavar or "")
            advice = "give it once, with its values separated by commas" if listed else "give it once"
            raise UserError(f"{parameter.opts[0]} is given {'twice' if times == 2 else f'{times} times'}; {advice}")


class CommandLine(typer.Typer):
    """A group of such commands."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Return the decorator that makes a function a command, as Typer's own does."""
        return super().command(name, cls=CheckedCommand, **settings)
