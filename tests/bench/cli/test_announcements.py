"""A command that takes a while prints what it does from the start, to standard error."""

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.tasks.data.lock import RevisionLock


def test_each_fit_is_announced_once_before_it_is_made(tiny_model, tiny_data, tmp_path):
    overrides = Overrides(
        methods=("lora", "bitfit"),
        tasks=("glue/sst2",),
        base_model=str(tiny_model),
        seeds=(1, 2, 3),
        sets=("train.max_length=32",),
        data_root=tiny_data,
        budgets="1k,2k",
    )
    message = []
    make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json"), message.append)
    # Of a method of fixed size nothing depends on the budget.
    assert message == [
        "fitting lora to 1k on glue/sst2",
        "checking bitfit on tiny-bert",
        "fitting lora to 2k on glue/sst2",
    ]


def test_budget_announces_its_methods_and_prints_its_table_alone(bench):
    result = bench("budget", "--model", "roberta-base", "--budget", "24k", "--methods", "lora,loca")
    assert [line for line in result.err.splitlines() if "counting" in line] == [
        "bench: counting lora (1 of 2)",
        "bench: counting loca (2 of 2)",
    ]
    assert "counting" not in result.out


def test_the_first_line_comes_before_the_libraries(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys\n"
        "class Stop(Exception): ...\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise Stop\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['bench', {command}]\n"
        "from parbench.bench.cli import main\n"
        "try: main()\n"
        "except Stop: pass\n"
    )
    for command in ("'run'", "'plan'", "'tune'", "'budget', '--model', 'bert-tiny', '--budget', '1k'"):
        done = subprocess.run([sys.executable, "-c", code.format(command=command)], capture_output=True, text=True)
        assert done.stderr.splitlines()[0] == "bench: loading torch and transformers", (command, done.stderr)
