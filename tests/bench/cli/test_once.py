"""An option that is given twice is an error, and not its last value, in every command."""

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from parbench.bench.cli import app
from parbench.bench.util.errors import UserError


def commands(group, path=()):
    """Yield every command with its name."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def options(command):
    return [entry for entry in command.params if isinstance(entry, TyperOption)]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_of_one_value_is_refused_the_second_time(name):
    command = COMMANDS[name]
    for option in options(command):
        if option.multiple:
            continue
        given = [option.opts[0]] if option.is_flag else [option.opts[0], "1"]
        with pytest.raises(UserError, match=rf"^{option.opts[0]} is given twice; give it once"):
            command.make_context(name, given * 2)
        if option.secondary_opts:
            with pytest.raises(UserError, match="is given 3 times"):
                command.make_context(name, [option.opts[0], *option.secondary_opts, option.opts[0]])


def test_one_that_adds_up_may_be_given_again_and_one_of_several_values_says_how():
    multiple = [option.opts[0] for command in COMMANDS.values() for option in options(command) if option.multiple]
    assert "--set" in multiple
    context = COMMANDS["run"].make_context("run", ["--set", "lora.r=4", "--set", "train.max_steps=2"])
    assert context.params["sets"] == ["lora.r=4", "train.max_steps=2"]
    with pytest.raises(UserError, match="give it once, with its values separated by commas"):
        COMMANDS["run"].make_context("run", ["--methods", "lora", "--seeds=1", "--methods=loca"])


def test_it_is_one_sentence_and_exit_code_2(bench):
    result = bench("run", "--methods", "lora", "--methods", "loca", "--dry-run")
    assert result.code == 2
    assert result.err.startswith("bench: --methods is given twice; give it once")
    assert len(result.err.splitlines()) == 1
