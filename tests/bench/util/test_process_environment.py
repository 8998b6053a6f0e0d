import os
import sys

import pytest

from parbench.bench.util import process_environment
from parbench.bench.util.errors import UserError
from parbench.bench.util.process_environment import clean_process, declared_environment, undeclared
from parbench.bench.util.search_path import leave_current_folder, search_path_variables, without_current_folder


@pytest.mark.parametrize(
    "name",
    [
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION", "FSDP_VERSION"),
        *("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_PROCID", "PET_NPROC_PER_NODE"),
        *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "ATEN_CPU_CAPABILITY"),
        *("MKL_CBWR", "OMP_DYNAMIC", "TRANSFORMERS_SDPA_FORCE_GQA", "FLASH_ATTENTION_DETERMINISTIC", "USE_HUB_KERNELS"),
        *("PYTORCH_ENABLE_MPS_FALLBACK", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA"),
    ],
)
def test_what_changes_results_is_not_there_and_comes_back(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert name in undeclared(os.environ)
    with declared_environment():
        assert name not in os.environ
        # As transformers does for the next training.
        os.environ["ACCELERATE_DYNAMO_BACKEND"] = "inductor"
    assert os.environ[name] == "1"
    assert "ACCELERATE_DYNAMO_BACKEND" not in os.environ
    clean_process()
    assert name not in os.environ


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_CACHE", "CUDA_VISIBLE_DEVICES"),
        *("OMP_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"),
    ],
)
def test_what_does_not_passes(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with declared_environment():
        assert os.environ[name] == "1"


def test_what_libraries_have_read_already_is_refused(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setattr(process_environment, "_INHERITED", {"NVIDIA_TF32_OVERRIDE": "1"})
    with (
        pytest.raises(UserError, match="variable NVIDIA_TF32_OVERRIDE is '1', which"),
        declared_environment(),
    ):
        pass
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    with declared_environment():
        pass


def test_deterministic_algorithms_keep_their_workspace(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with declared_environment():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_current_folder_is_not_searched_in_front_of_the_standard_library(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    standard = os.path.dirname(os.__file__)
    here, other = str(tmp_path), str(tmp_path / "other")
    path = ["", here, ".", other, standard, "site-packages", here]
    assert without_current_folder(path) == [other, standard, "site-packages", here]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", "", "other", here]))
    assert search_path_variables() == {"PYTHONSAFEPATH": "1", "PYTHONPATH": other}
    monkeypatch.setattr(sys, "path", path)
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    leave_current_folder()
    assert sys.path == [other, standard, "site-packages", here]
    assert os.environ["PYTHONSAFEPATH"] == "1"


def test_a_current_folder_that_was_deleted_is_none(monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert without_current_folder(["", "/somewhere"]) == ["/somewhere"]
