"""A run follows from its spec, whatever the environment and the folder that it is started in."""

import os
import subprocess
import sys

import pytest
import torch

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.execute_run import execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.store import Store
from parbench.tasks.data.lock import RevisionLock
from tests.support.paths import SOURCE

ADAPTER = "adapter/adapter_model.safetensors"
# What launchers set for the second of two processes, and what accelerate listens to.
LAUNCHERS = {
    "torchrun": {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
    "mpi": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMI_RANK": "1", "PMI_SIZE": "2"},
    "slurm": {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NTASKS": "2", "SLURM_NPROCS": "2"},
    "precision": {"ACCELERATE_MIXED_PRECISION": "bf16"},
    "accumulation": {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "3"},
    "fsdp": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "deepspeed": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "compiled": {"ACCELERATE_DYNAMO_BACKEND": "EAGER"},
}
# Read when libraries are imported.
LIBRARIES = {
    "NVIDIA_TF32_OVERRIDE": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "TRANSFORMERS_SDPA_FORCE_GQA": "1",
}


@pytest.fixture
def planned(tiny_data, tiny_model, tmp_path):
    overrides = Overrides(
        methods=("lora",),
        tasks=("glue/sst2",),
        base_model=str(tiny_model),
        seeds=(1,),
        sets=("train.max_steps=3", "train.max_length=32", "train.batch_size=8"),
        data_root=tiny_data,
        limit=32,
    )
    (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json")).runs
    return run


def adapter(run, folder):
    store = Store(folder)
    store.prepare()
    record = execute_run(run, store, DataCache(), torch.device("cpu"))
    assert record.status == "ok", record.reason
    return (store.runs / record.run_id / ADAPTER).read_bytes()


@pytest.fixture(scope="module")
def undisturbed():
    """The adapter without any variable, trained once."""
    return {}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launchers_variables_change_no_run(planned, undisturbed, tmp_path, monkeypatch, launcher):
    if not undisturbed:
        undisturbed["adapter"] = adapter(planned, tmp_path / "undisturbed")
    for name, value in LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value)
    assert adapter(planned, tmp_path / "disturbed") == undisturbed["adapter"]


@pytest.fixture
def hostile(tmp_path):
    """A folder of modules with names of ours, of libraries and of the standard library; each ends a process."""
    folder = tmp_path / "hostile"
    for package in ("tasks", "methods", "reports", "datasets", "peft", "multiprocessing"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise SystemExit('imported from the current folder')\n")
    for module in ("bench", "random", "socket", "typer", "torch", "wandb"):
        (folder / f"{module}.py").write_text("raise SystemExit('imported from the current folder')\n")
    return folder


def command(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "parbench.bench", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}.", **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )


def run_arguments(model, data, out):
    return [
        *("run", "--suite", "mini", "--tasks", "glue/sst2", "--methods", "lora", "--seeds", "1", "--limit", "32"),
        *("--model", model, "--data-root", data, "--out", out),
        *("--set=train.max_steps=3", "--set=train.max_length=32", "--set=train.batch_size=8"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("isolate", ["--isolate", "--no-isolate"])
def test_no_variable_and_no_folder_changes_a_command(planned, tiny_model, tiny_data, tmp_path, hostile, isolate):
    variables = LIBRARIES | {name: value for group in LAUNCHERS.values() for name, value in group.items()}
    done = command(*run_arguments(tiny_model, tiny_data, tmp_path / "out"), isolate, cwd=hostile, **variables)
    assert done.returncode == 0, done.stderr
    (found,) = (tmp_path / "out" / "runs").iterdir()
    assert found.name == planned.spec.run_id
    assert (found / ADAPTER).read_bytes() == adapter(planned, tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("profile", "--rounds", "1", "--steps", "1", "--warm-up", "0", "--batch", "2", "--seq", "8"),
        ("plan",),
        ("tune", "--trials", "1"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_other_commands_import_nothing_from_the_current_folder(tiny_model, tiny_data, tmp_path, hostile, arguments):
    more = ["--methods", "lora", "--model", tiny_model]
    if arguments[0] != "profile":
        more += ["--suite", "mini", "--tasks", "glue/sst2", "--limit", "32", "--data-root", tiny_data]
        more += ["--out", tmp_path / "out", "--set=train.max_steps=2", "--set=train.max_length=32"]
    done = command(*arguments, *more, cwd=hostile)
    assert done.returncode == 0, done.stderr
    assert "current folder" not in done.stdout + done.stderr
