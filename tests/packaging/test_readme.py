"""What the README shows can be typed: every `bench` line parses, and its Python blocks run."""

import ast
import re
import shlex

import pytest
import typer

from parbench.bench.cli import app
from parbench.bench.plan.suite import load_suite
from tests.support.paths import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("bench ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_have_the_options_that_are_shown(line):
    name, *arguments = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app).commands[name]
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    context = command.make_context(name, arguments)
    assert not context.args


def test_the_parser_refuses_what_is_not_an_option():
    """Otherwise the test above would show nothing."""
    with pytest.raises(Exception, match="there is no option"):
        typer.main.get_command(app).commands["run"].make_context("run", ["--method", "lora"])


def test_commands_in_sentences_exist():
    commands = typer.main.get_command(app).commands
    named = set(re.findall(r"`bench ([a-z]+)", TEXT))
    assert named
    assert named <= set(commands)


def test_every_command_is_shown():
    commands = set(typer.main.get_command(app).commands)
    assert {line.split()[1] for line in COMMANDS} | set(re.findall(r"`bench ([a-z]+)", TEXT)) == commands


def test_paths_exist():
    paths = re.findall(r"`((?:bench|methods|tasks|reports|tests)/[\w./]*)`", TEXT)
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_example_is_of_the_suite_that_run_all_runs():
    """`.ci/example.py` writes it from that suite's results."""
    shown = TEXT.partition("<!-- begin: written by .ci/example.py -->")[2].partition("<!-- end -->")[0]
    suite = load_suite("mini")
    rows = re.findall(r"^\| ([^|]+?) \|", shown, re.MULTILINE)[2:]
    assert sorted(rows) == sorted(suite.methods)
    assert all(task in shown for task in suite.tasks)
    (figure,) = re.findall(r"!\[.*\]\((.*)\)", shown)
    assert (ROOT / figure).read_text(encoding="utf-8").startswith("<?xml")


def test_python_blocks_name_what_there_is():
    """Imports of every block work; a block that trains is shortened."""
    for block in blocks("python"):
        imports = [node for node in ast.parse(block).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), "README.md", "exec"), {})  # noqa: S102 -- our own text


@pytest.mark.slow
def test_the_python_tour_runs(tiny_model, tiny_data, tmp_path, monkeypatch):
    """As it is shown, on a tiny model and tiny data."""
    (block,) = (block for block in blocks("python") if "parbench.run(" in block)
    monkeypatch.chdir(tmp_path)
    import parbench

    whole = parbench.run
    sets = {"train.max_steps": 6, "train.max_length": 32, "loca.n_frequency": 50}
    small = {"suite": "mini", "model": tiny_model, "data_root": tiny_data, "sets": sets, "isolate": False}
    monkeypatch.setattr(parbench, "run", lambda **shown: whole(**shown, **small), raising=False)
    names = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102 -- our own text
    assert (names["results"]["status"] == "ok").all()
    assert len(names["results"]) == len(names["frame"]) == 6
    assert len(names["rows"]) == 6 * 60
    assert set(names["board"]["method"]) == {"lora", "loca"}
