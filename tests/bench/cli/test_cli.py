import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from parbench.bench.cli.console import open_console, say
from parbench.bench.cli.listing import claim_summary
from parbench.bench.store.store import Store
from tests.support.claims import claim
from tests.support.paths import ROOT

HEAVY = ("torch", "transformers", "peft", "pandas", "matplotlib", "datasets", "scipy", "sklearn")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["run", "--help"], ["tune", "--help"]]
    + [["list", what] for what in ("methods", "tasks", "models", "suites", "claims")],
)
def test_help_and_lists_import_nothing_heavy(arguments):
    code = (
        f"import sys; sys.argv = ['bench', *{arguments!r}]\n"
        "from parbench.bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("HEAVY []"), done.stdout


def test_identifiers_with_colons_are_printed_as_they_are(capsys):
    say("boolq:train:0", open_console())
    assert capsys.readouterr().out == "boolq:train:0\n"


def test_version(bench):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bench("--version").out.strip() == f"parbench {project['version']}"


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("methods", ["loca", "lora"]),
        ("tasks", ["glue/cola", "glue/wnli"]),
        ("models", ["minilm-l6", "roberta-large"]),
        ("suites", ["mini", "loca_paper"]),
        ("claims", ["loca_half_of_lora", "arXiv 2502.03044"]),
    ],
)
def test_lists(bench, what, names):
    result = bench("list", what)
    assert result.code == 0
    assert all(name in result.out for name in names)


def test_a_claim_is_listed_with_its_source_and_whether_it_can_be_tested():
    assert claim_summary(claim().claim) == "LoCA is better than LoRA [Somebody, 2025, abstract]"
    untestable = claim(here=None, not_testable="there is no such option").claim
    assert claim_summary(untestable) == "LoCA is better than LoRA [Somebody, 2025, abstract; cannot be tested here]"


def test_a_comparison_from_the_command_to_the_report(bench, bench_run, tmp_path):
    result = bench_run(seeds="1,2")
    assert result.code == 0, result.err
    assert result.out.startswith("suite mini: chosen by name\na miniature: it cannot show how the methods rank")
    assert "4 runs done, 0 failed" in result.out
    store = Store(tmp_path / "store")
    records = list(store.scan())
    assert {(r.spec.method, r.spec.seed) for r in records} == {(m, s) for m in ("lora", "loca") for s in (1, 2)}
    for record in records:
        assert record.status == "ok"
        assert record.examples == {"train": 144, "selection": 16, "reported": 60}
        assert 0 <= record.metrics["accuracy"] <= 1
        assert record.cost.train_steps == 6
        assert record.provenance.versions["peft"]

    shown = bench("show", records[0].run_id[:8], "--out", store.root)
    assert json.loads(shown.out)["run_id"] == records[0].run_id

    report = bench("report", "--out", store.root)
    assert report.code == 0, report.err
    text = (store.root / "report" / "leaderboard.md").read_text()
    assert "SMALL" in text
    assert re.search(r"lora.*\(n=2\)", text)
    assert (store.root / "report" / "leaderboard.csv").exists()


def test_what_is_done_is_skipped_and_no_resume_does_it_again(bench_run, tmp_path):
    bench_run(methods="lora")
    (record,) = Store(tmp_path / "store").scan()
    second = bench_run(methods="lora")
    assert "1 of 1 runs are done already" in second.out
    assert list(Store(tmp_path / "store").scan()) == [record]
    third = bench_run("--overwrite", "always", methods="lora")
    assert "1 run done" in third.out
    (again,) = Store(tmp_path / "store").scan()
    assert again.run_id == record.run_id
    assert again.metrics == record.metrics
    assert len(list((tmp_path / "store" / "aside").iterdir())) == 1


def test_a_dry_run_writes_nothing(bench_run, tmp_path):
    result = bench_run("--dry-run", seeds="1,2,3")
    assert result.code == 0
    assert result.out.count("to do") == 6
    assert not (tmp_path / "store").exists()


def test_a_half_written_record_is_made_again_and_kept_aside(bench, bench_run, tmp_path):
    bench_run(methods="lora")
    store = Store(tmp_path / "store")
    (record,) = store.scan()
    path = store.runs / record.run_id / "record.json"
    half = path.read_text()[:100]
    path.write_text(half)

    shown = bench("show", record.run_id, "--out", store.root)
    assert shown.code == 2
    assert "record.json is not whole JSON" in shown.err
    report = bench("report", "--out", store.root)
    assert report.code == 1  # the report of the others is written
    assert (store.root / "report" / "index.html").is_file()
    assert "left out of the report: " in report.err
    assert "record.json is not whole JSON" in report.err.replace("\n", " ")

    assert "to do; what is there is not whole JSON" in bench_run("--dry-run", methods="lora").out
    result = bench_run(methods="lora")
    assert result.code == 0
    said = [line for line in result.out.splitlines() if "the run is done again" in line]
    assert [line.partition(" is not whole JSON")[0] for line in said] == [str(path)]
    assert said[0].endswith(f"its folder is then moved to {store.root / 'aside'}")
    (again,) = store.scan()
    assert again.metrics == record.metrics
    (aside,) = (store.root / "aside").iterdir()
    assert (aside / "record.json").read_text() == half
    assert (aside / "predictions.parquet").is_file()
    assert "is done again" not in bench_run(methods="lora").out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--methods", "lorra"], 'there is no method called "lorra"; did you mean "lora"?'),
        (["--methods", ","], "--methods is empty; leave it out"),
        (["--seeds", ""], "--seeds is empty; leave it out"),
        (["--model", ""], "--model is empty; leave it out"),
        (["--budget-mode", "pattern"], "--budget-mode pattern needs a budget"),
        (["--partition", "long"], "--partition goes with --executor slurm, not with local"),
        (["--gpus-per-run", "0.5"], "--gpus-per-run goes with --executor ray or slurm, not with local"),
        (["--silence-limit", "5"], "--silence-limit and --memory-limit need processes; leave --no-isolate out"),
        (["--tasks", "gleu"], 'there is no task called "gleu"; did you mean "glue"?'),
        (["--model", "no/such/model/at/all"], 'there is no base model called "no/such/model/at/all"'),
        (["--suite", "mini2"], 'there is no suite called "mini2", nor a file; did you mean "mini"?'),
        (["--seeds", "1,x"], '"--seeds 1,x" are not comma-separated whole numbers'),
        (["--seeds", "-1"], '"--seeds -1" are not comma-separated whole numbers'),
        (["--limit", "0"], "--limit is 0; give a number of at least 1"),
        (["--limit", "-5"], "--limit is -5"),
        (["--workers", "100000000"], "--workers is 100000000; give a number of at most 10000"),
        (["--set", "lora.rank=3"], 'there is no field "rank"'),
        (["--set", "lora.r=-3"], "greater than 0 (it is -3)"),
        (["--set", "train.batch_size=0"], 'field "batch_size"'),
        (["--device", "meta"], 'the device "meta" is not supported'),
        (["--device", "tpu"], '"tpu" is not a device; use cpu, cuda or cuda:N'),
        (["--device", "banana"], '"banana" is not a device'),
        (["--device", "cuda:99"], 'there is no device "cuda:99" here'),
        (["--data-root", "/no/such/folder"], "is not a folder"),
        (["--set", "train.max_length=100"], "max_length 100 is more than tiny-bert has room for: it takes 64 tokens"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_code_2(bench_run, arguments, complaint, tmp_path):
    result = bench_run(*arguments, methods="lora")
    assert result.code == 2
    message = " ".join(result.err.split())
    assert message.startswith("bench: ")
    assert complaint in message
    assert "Traceback" not in result.err
    assert not list(Store(tmp_path / "store").scan())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("text,label\na,1\nb,0\n", "the train split of glue/sst2 has no column sentence; it has text, label"),
        (
            "sentence,label\na,1\nb,7\n",
            "train split of glue/sst2, column label, has the unknown label '7' in row 2",
        ),
        (
            "sentence,label\na,happy\nb,sad\n",
            "unknown label 'happy' in row 1; it may be negative",
        ),
        ("sentence,label\n", "the train split of glue/sst2 is empty"),
        ("sentence,label\n1,1\n2,0\n", "(2 examples) is too small to cut a selection split from"),
        ("sentence,label\na,1\nb\n", "cannot be read as .csv"),
    ],
)
def test_data_that_is_not_the_tasks_is_found_before_anything_is_trained(bench, tmp_path, tiny_model, text, complaint):
    folder = tmp_path / "data" / "glue-sst2"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text(text)
    (folder / "validation.csv").write_text("sentence,label\na,1\nb,0\n")
    result = bench(
        "run", "--no-isolate", "--suite", "mini", "--tasks", "glue/sst2", "--model", tiny_model,
        "--data-root", tmp_path / "data", "--set", "train.max_length=32", "--out", tmp_path / "store",
    )  # fmt: skip
    assert result.code == 2
    assert complaint in " ".join(result.err.split())


def test_a_store_that_cannot_be_written_to_is_a_sentence(bench_run, tmp_path):
    (tmp_path / "store").write_text("a file")
    result = bench_run(methods="lora")
    assert result.code == 2
    assert "cannot write to" in result.err


def test_without_network_and_copy_the_sentence_states_what_to_do(bench_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    result = bench_run("--model", "nobody/nothing", methods="lora")
    assert result.code == 2
    message = " ".join(result.err.split())
    assert (
        'cannot get "nobody/nothing" from the hub, and there is no local copy of it; connect to the network' in message
    )


def test_nothing_to_report_is_a_sentence(bench, tmp_path):
    result = bench("report", "--out", tmp_path / "nothing")
    assert result.code == 2
    assert "there are no runs in" in result.err


def test_what_methods_can_do_is_found_by_trying(bench, monkeypatch):
    monkeypatch.setattr(
        "parbench.bench.util.registry.Registry.__iter__", lambda registry: iter(["lora", "loca", "shadow"])
    )
    result = bench("list", "methods", "--probe")
    assert result.code == 0, result.err
    lines = {line.split()[0].rstrip(":"): line for line in result.out.splitlines() if line.strip()}
    assert re.search(r"loca( +yes){8} +n_frequency=\d+ ", result.out)
    assert "cannot be used here" in lines["shadow"]
    assert bench("list", "tasks", "--probe").code == 2


def test_a_budget_is_shown_with_the_counts_and_what_misses_it(bench):
    result = bench(
        "budget", "--model", "roberta-base", "--budget", "24k,match:lora(r=1)", "--methods", "lora,loca,bitfit"
    )
    assert result.code == 0, result.err
    assert "roberta-base, 24k: at most 24,000 reported parameters" in result.out
    assert re.search(r"loca +n_frequency=1000 +24,000 +72,000 +72,000 +288,000 +100.0%", result.out)
    assert "lora: nothing fits 24,000: its smallest size, r=1, has 36,864; allow --budget-mode pattern" in result.out
    assert "bitfit: of fixed size, over the budget: 425.6% of it" in result.out
    assert "The task head, 592,130 parameters, is never counted." in result.out
    assert re.search(r"match:lora\(r=1\): at most 36,864 .*\n.*\nlora +r=1 +36,864", result.out)


def test_a_budget_of_step_time_states_what_was_reached(bench, tiny_model):
    arguments = ["--model", tiny_model, "--batch", 2, "--seq", 8, "--match", "step-time", "--budget", "60s"]
    result = bench("budget", *arguments, "--device", "cpu", "--methods", "lora_gen,linear_probe")
    assert (result.code, "lora_gen: " in result.out) == (0, True), result.err
    assert "at most 60,000.0 ms of step-time a training step (batch 2 x 8 tokens on cpu" in result.out
    assert re.search(r"linear_probe +fixed +\d+\.\d +0\.\d% ", result.out)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--budget", "lots"], '"--budget lots" is none of 24000, 24k'),
        (["--budget", "24k", "--methods", "lora(r=-1)"], "greater than 0 (it is -1)"),
        (["--budget", "24k", "--methods", "lora(r=1"], "brackets"),
        (["--budget", "24k", "--methods", "lora+qv_ration(4)"], 'did you mean "qv_ratio"'),
        (["--budget", "1s", "--match", "memory"], "is not a memory"),
        (["--budget", "1s", "--match", "step-time", "--batch", "0"], "--batch is 0"),
    ],
)
def test_a_wrong_budget_is_a_sentence(bench, arguments, complaint):
    result = bench("budget", "--model", "roberta-base", *arguments)
    assert result.code == 2
    assert complaint in " ".join(result.err.split())


def test_methods_and_stores_are_compared(bench, bench_run, tmp_path, monkeypatch):
    bench_run(seeds="1,2")
    store = tmp_path / "store"
    result = bench("compare", "lora", "loca", "--out", store)
    assert result.code == 0, result.err
    assert "glue/sst2 (accuracy)" in result.out
    shutil.copytree(store, tmp_path / "copy")
    assert bench("compare", store, tmp_path / "copy", "--method", "lora").code == 0
    # A folder that happens to be called like a method is not a store.
    (tmp_path / "lora").mkdir()
    monkeypatch.chdir(tmp_path)
    assert bench("compare", "lora", "loca", "--out", store).code == 0
    for arguments, complaint in (
        (["lora", "lora", "--out", store], "are the same"),
        ([store, tmp_path / "copy" / ".." / "store"], "are the same"),
        (["lora", store, "--out", store], "are a store and a method"),
        (["lora", "loca", "--method", "lora", "--out", store], "--method applies to two stores"),
        (["lora", "dora", "--out", store], "dora"),
    ):
        wrong = bench("compare", *arguments)
        assert wrong.code == 2
        assert complaint in " ".join(wrong.err.split())


def test_on_a_terminal_there_are_bars_and_a_line_a_run(tmp_path):
    """In a real pseudo-terminal: the program must find one by itself."""
    import os
    import pty

    from tests.support.records import RECORD

    code = (
        "from rich.console import Console\n"
        "from tests.support import records\n"
        "from parbench.bench.execute.progress import TerminalProgress, make_progress\n"
        "console = Console()\n"
        "with make_progress(console, 2) as progress:\n"
        "    assert isinstance(progress, TerminalProgress)\n"
        "    progress.begin(records.SPEC)\n"
        "    progress.step(records.SPEC, 5, 100, 0.693)\n"
        "    progress._bars.refresh()\n"
        "    progress.end(records.RECORD)\n"
    )
    shown = b""
    child, terminal = pty.fork()
    if child == 0:
        paths = os.pathsep.join(sys.path)
        os.environ.update({"PYTHONPATH": paths, "COLUMNS": "140", "TERM": "xterm"})
        os.execv(sys.executable, [sys.executable, "-c", code])  # noqa: S606 - this interpreter, our own text
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux's error for a pseudo-terminal whose other side is closed
            break
        if not chunk:
            break
        shown += chunk
    _, status = os.waitpid(child, 0)
    text = shown.decode()
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert "5/100" in text
    assert "loss 0.693" in text
    assert f"[1/2] {RECORD.run_id} lora on glue/sst2 with minilm-l6, seed 1: accuracy 81.2" in text
