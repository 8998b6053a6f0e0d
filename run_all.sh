#!/usr/bin/env bash
# Sets everything up in .venv and then:
#   ./run_all.sh                 runs the mini suite and writes its report
#   ./run_all.sh test [--slow]   runs the tests (any pytest argument may follow, as --cov for their coverage)
#   ./run_all.sh check           runs the linters
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The torch that is installed where there is none and no CUDA device is seen.
CPU_TORCH="torch==2.13.0"

fail() {
    echo "run_all.sh: $1" >&2
    exit 2
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer and finds none; install one, or name it: PYTHON=/path/to/python ./run_all.sh"
}

has_cuda_device() {
    command -v nvidia-smi >/dev/null && nvidia-smi --list-gpus 2>/dev/null | grep -q GPU
}

# setup EXTRAS: make .venv hold the project with its pinned dependencies; nothing to do if it does already.
setup() {
    local extras="$1" python stamp
    if [ ! -x .venv/bin/python ]; then
        python="$(find_python)"
        # On a machine with a GPU the user's own CUDA torch is seen from inside, and kept.
        if has_cuda_device; then
            "$python" -m venv --system-site-packages .venv
        else
            "$python" -m venv .venv
        fi
    fi
    stamp=".venv/.installed-$(echo "$extras" | cat - pyproject.toml constraints.txt | sha256sum | cut -c1-16)"
    [ -e "$stamp" ] && return
    echo "setting up .venv (minutes the first time)"
    local pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
    if ! .venv/bin/python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; then
        if has_cuda_device; then
            "${pip[@]}" install torch
        else
            "${pip[@]}" install "$CPU_TORCH"
        fi
    fi
    # Whatever torch is there now stays: it is the one that fits this machine.
    .venv/bin/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > .venv/torch.txt
    "${pip[@]}" install --constraint constraints.txt --constraint .venv/torch.txt --editable ".$extras"
    touch "$stamp"
}

case "${1:-run}" in
    run)
        [ $# -le 1 ] || fail "\"run\" takes no arguments; for a run of your own use .venv/bin/bench run --help"
        setup ""
        # --out: a second call skips what is done.
        .venv/bin/bench run --suite mini --out results/mini
        .venv/bin/bench report --out results/mini
        ;;
    test)
        shift
        setup "[dev]"
        arguments=()
        for argument in "$@"; do
            # The fast tests alone are the default (pyproject.toml).
            if [ "$argument" = --slow ]; then arguments+=(-m "slow or not slow"); else arguments+=("$argument"); fi
        done
        # One thread a worker: two spinning thread pools on two cores are many times slower than none.
        # Each worker takes neighbouring tests, which share fixtures; one that is done takes over half of another's rest.
        OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest --numprocesses auto --dist worksteal "${arguments[@]}"
        ;;
    check)
        setup "[dev]"
        .venv/bin/ruff check .
        .venv/bin/ruff format --check .
        .venv/bin/mypy
        # Layers, and no circle of imports; then the lengths of files and functions.
        PYTHONPATH=.src .venv/bin/lint-imports --no-cache
        .venv/bin/python .ci/lengths.py
        ;;
    -h | --help)
        # The lines above that say what there is.
        sed -n '2,5s/^# //p' run_all.sh
        ;;
    *)
        fail "\"$1\" is none of run, test, check"
        ;;
esac
