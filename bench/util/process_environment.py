"""What a run inherits from the process that starts it: a declared environment.

A run is one process, and its result follows from its spec. Launchers, clusters and shells set variables that trainers
obey in silence: a rank shards the data, ``ACCELERATE_MIXED_PRECISION`` changes the precision, ``NVIDIA_TF32_OVERRIDE``
the arithmetic. Of the families of variables below a run gets those in `_DECLARED` and no others; variables outside
these families (paths, caches, tokens, proxies, trackers) pass.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext

from parbench.bench.util.errors import UserError
from parbench.bench.util.search_path import search_path_variables, without_current_folder
from parbench.bench.util.socket_folder import shorten_socket_paths

# Read when a training begins: by accelerate, torch.distributed, torchrun, MPI, Slurm, SageMaker and XLA.
_LAUNCH_NAMES = frozenset(
    (
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK"),
        *("GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "CROSS_RANK", "CROSS_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT", "NPROC", "FORK_LAUNCHED", "TRAINING_JOB_ARN", "PJRT_DEVICE"),
        *("USE_TORCH_XLA", "PT_HPU_LAZY_MODE"),
    )
)
_LAUNCH_FAMILIES = (
    *("ACCELERATE_", "FSDP_", "DEEPSPEED_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "PET_", "TORCHELASTIC_"),
    *("OMPI_", "PMI_", "PMIX_", "MPI_", "MV2_", "I_MPI_", "HYDRA_", "PALS_", "CCL_", "SLURM_", "FLUX_", "JSM_"),
    *("SM_", "SMDATAPARALLEL_", "XLA_", "XRT_", "TPU_", "NEURON_"),
)
# Read when libraries are imported or first used: which kernels they choose, and in which precision these compute.
_LIBRARY_NAMES = frozenset(
    (
        *("NVIDIA_TF32_OVERRIDE", "USE_TORCH", "USE_TF", "USE_FLAX", "USE_HUB_KERNELS"),
        *("DISABLE_KERNEL_MAPPING", "KMPDETERMINISTIC_CUBLAS_REDUCTION", "KMP_FORCE_REDUCTION"),
        *("HCCLDETERMINISTIC_CUBLAS",),
    )
)
_LIBRARY_FAMILIES = (
    *("TORCH_", "TORCHDYNAMO_", "PYTORCH_", "ATEN_", "TRANSFORMERS_", "PEFT_", "FLASH_", "FLA_", "XFORMERS_"),
    *("CUBLAS_", "CUBLASLT_", "CUDNN_", "MIOPEN_", "ROCBLAS_", "HIPBLAS", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_"),
    *("BLIS_", "OMP_", "NPY_DISABLE_CPU_", "NPY_ENABLE_CPU_", "BITSANDBYTES_", "BNB_"),
)
# Of these families: folders, memory allocation, messages, and the threads that a record's hardware reports.
_DECLARED = frozenset(
    (
        *("TORCH_HOME", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_NVML_BASED_CUDA_CHECK"),
        *("PYTORCH_KERNEL_CACHE_PATH", "TORCH_LOGS", "TORCH_SHOW_CPP_STACKTRACES", "TORCH_EXTENSIONS_DIR"),
        *("TRANSFORMERS_CACHE", "TRANSFORMERS_OFFLINE", "TRANSFORMERS_VERBOSITY"),
        *("TRANSFORMERS_NO_ADVISORY_WARNINGS", "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES"),
        *("OMP_WAIT_POLICY", "OMP_STACKSIZE", "OMP_DISPLAY_ENV", "MKL_NUM_THREADS", "MKL_THREADING_LAYER"),
        *("MKL_INTERFACE_LAYER", "MKL_SERVICE_FORCE_INTEL", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"),
    )
)
# What the server imports that processes are forked from.
PRELOAD = "parbench.bench.execute.preload"
# What `use_deterministic_algorithms` sets.
DETERMINISTIC_CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def undeclared(environment: Mapping[str, str]) -> list[str]:
    """Return the variables of an environment that would change a run and are not declared."""
    return sorted(name for name in environment if _is_launch(name) or _is_library(name))


def _is_launch(name: str) -> bool:
    return name not in _DECLARED and (name in _LAUNCH_NAMES or name.startswith(_LAUNCH_FAMILIES))


def _is_library(name: str) -> bool:
    return name not in _DECLARED and (name in _LIBRARY_NAMES or name.startswith(_LIBRARY_FAMILIES))


# Inherited variables that libraries of this process may have read. Libraries also set some themselves.
_INHERITED = {name: value for name, value in os.environ.items() if _is_library(name)}


def clean_process() -> None:
    """Remove the undeclared variables from this process, and so from all that it starts.

    To be called before heavy libraries are imported, which read some variables once.
    """
    for name in undeclared(os.environ):
        del os.environ[name]
        _INHERITED.pop(name, None)


@contextmanager
def declared_environment() -> Iterator[None]:
    """Return a context in which the process has the declared environment; at its end the one before is restored.

    What transformers sets for one training is therefore not inherited by the next one either.

    Raises:
        UserError: a variable is set that libraries may have read already.
    """
    if found := [name for name, value in _INHERITED.items() if os.environ.get(name) == value]:
        name = found[0]
        raise UserError(
            f"the environment variable {name} is {os.environ[name]!r}, which libraries of this process have read and "
            f"which changes results without being part of a run's settings; unset {name} and start Python again"
        )
    allowed = {name for name, value in DETERMINISTIC_CUBLAS.items() if os.environ.get(name) == value}
    before = {name: os.environ.pop(name) for name in undeclared(os.environ) if name not in allowed}
    try:
        yield
    finally:
        for name in undeclared(os.environ):
            if name not in allowed:
                del os.environ[name]
        os.environ.update(before)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Return a context whose new processes are not reached by Ctrl-C, which a terminal sends to all of a command.

    The server would die of it while it imports, and the command, which decides what to do, could start no process. A
    process that is forked from the server ends this with `ignore_interrupts`.
    """
    # Before: starting it lets interrupts through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the command that has started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def fork_server() -> ForkServerContext:
    """Return a multiprocessing context whose server has the declared environment and search path.

    The server imports the heavy libraries once; processes forked from it take milliseconds to start.
    """
    shorten_socket_paths()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    path = list(sys.path)
    removed = {name: os.environ.pop(name) for name in undeclared(os.environ)}
    replaced = {name: os.environ.get(name) for name in search_path_variables()}
    try:
        os.environ.update(search_path_variables())
        # On some versions of Python the server takes over the search path of this process.
        sys.path[:] = without_current_folder(path)
        with _interrupts_held_back():
            forkserver.ensure_running()
    finally:
        sys.path[:] = path
        for name, value in replaced.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        os.environ.update(removed)
    return context


def worker_server() -> ForkServerContext:
    """Return `fork_server` for runs, whose idle threads must not keep cores busy."""
    # Read by OpenMP when the server loads torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return fork_server()
