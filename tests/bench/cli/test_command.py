"""An option that is given twice is an error, and not its last value, in every command; and so is an unknown one."""

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


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("--lr", "; give it as --set METHOD.learning_rate=VALUE"),
        ("--learning_rate=1e-3", "; give it as --set METHOD.learning_rate=VALUE"),
        ("--rank", "; give it as --set METHOD.r=VALUE"),
        ("--num_train_epochs", "; give it as --set train.epochs=VALUE"),
        ("--per-device-train-batch-size", "; give it as --set train.batch_size=VALUE"),
        ("--max_steps", "; give it as --set train.max_steps=VALUE"),
        ("--seed", '; did you mean "--seeds"?'),
        ("--model_name_or_path", '; did you mean "--model"?'),
        ("--output_dir", '; did you mean "--out"?'),
        ("--base_precision", '; did you mean "--base-precision"?'),
        ("--metods", '; did you mean "--methods"?'),
        ("--load-in-4bit", ": give --base-precision nf4"),
        ("--resume", ": the same command resumes what was interrupted"),
        ("--logging_steps", ": the loss is logged some fifty times in each run, in its history.jsonl"),
    ],
)
def test_an_unknown_option_is_answered_by_the_one_here(option, advice):
    with pytest.raises(UserError) as refused:
        COMMANDS["run"].make_context("run", ["--methods", "lora", option, "5"])
    assert str(refused.value) == f"there is no option {option.partition('=')[0]}{advice}"


def test_a_command_without_settings_offers_none():
    with pytest.raises(UserError, match=r"^there is no option --lr; there is: .*--out"):
        COMMANDS["gc"].make_context("gc", ["--lr", "5"])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_no_unknown_option_and_a_longer_name_is(name):
    COMMANDS[name].make_context(name, ["--help"], resilient_parsing=True)
    for option in options(COMMANDS[name]):
        with pytest.raises(UserError, match=f"^there is no option {option.opts[0]}x"):
            COMMANDS[name].make_context(name, [f"{option.opts[0]}x"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["run", "--methods", "lora,", "loca"],
            '"loca" is an argument too many for the command run; write a list without blanks',
        ),
        (["report", "{folder}"], r"is an argument too many for the command report; did you mean --out .*\?$"),
        (["report", "nowhere"], '^"nowhere" is an argument too many for the command report$'),
        (["compare", "lora", "loca", "dora"], '^"dora" is an argument too many for the command compare$'),
        (["compare", "lora"], "^the command compare needs an argument, B: A second method or store$"),
        (["show"], "^the command show needs an argument, RUN_ID: A run's id, or its first digits$"),
        (["list"], "^the command list needs an argument, methods[|]tasks[|]models[|]suites[|]claims: What to list$"),
    ],
)
def test_the_wrong_number_of_arguments_is_one_sentence(arguments, sentence, tmp_path):
    name, *others = (word.format(folder=tmp_path) for word in arguments)
    with pytest.raises(UserError, match=sentence):
        COMMANDS[name].make_context(name, others)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_no_arguments(name, capsys):
    with pytest.raises(typer.Exit):
        COMMANDS[name].make_context(name, ["--help"])
    assert "Usage" in capsys.readouterr().out
