"""What is said of an option that a command or function does not have: where what the user means is given here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection

from parbench.bench.util.elsewhere import Elsewhere
from parbench.bench.util.errors import UserError

# Options of the commands of transformers, peft, lm-eval and of scripts beside them, by their names with underscores.
_RENAMED = {
    "seed": "seeds",
    "method": "methods",
    "task": "tasks",
    "dataset": "tasks",
    "dataset_name": "tasks",
    "model_name": "model",
    "model_name_or_path": "model",
    "pretrained": "model",
    "base_model": "model",
    "model_args": "model",
    "output": "out",
    "output_dir": "out",
    "output_path": "out",
    "results": "out",
    "num_workers": "workers",
    "jobs": "workers",
    "include_path": "tasks",
    "max_train_samples": "limit",
    "max_eval_samples": "evaluation_limit",
    "data_dir": "data_root",
    "gpu": "device",
    "gpus": "device",
}
# Likewise, of commands that train.
_EXPLAINED = {
    "load_in_4bit": "give --base-precision nf4",
    "load_in_8bit": "give --base-precision int8",
    "bf16": "give --set train.precision=bfloat16",
    "fp16": "give --set train.precision=bfloat16",
    "dtype": "give --base-precision for the frozen weights, --set train.precision=bfloat16 for what is computed",
    "resume": "the same command resumes what was interrupted",
    "resume_from_checkpoint": "the same command resumes what was interrupted",
    "overwrite_output_dir": "give --overwrite always, or another --out",
    "trust_remote_code": "code of a model's repository is never executed",
    "num_fewshot": "it is an option of a task, as --set commonsense.num_fewshot=5",
}
_SETS = "sets"


def refuse_unknown(arguments: Collection[str], options: Collection[str]) -> None:
    """Check that a command has every long option that it is given.

    Args:
        arguments: of the command line.
        options: those that the command has, with their dashes.

    Raises:
        UserError: it lacks one.
    """
    # The one option with another name in Python.
    known = [_SETS if name == "--set" else name[2:].replace("-", "_") for name in options if name.startswith("--")]
    for argument in arguments:
        if argument == "--":
            return
        option = argument.partition("=")[0]
        if option.startswith("--") and option not in options:
            word = option[2:].lower().replace("-", "_")
            hint = advice(word, known, lambda name: f"--{name.replace('_', '-')}", lambda key: f"--set {key}=VALUE")
            raise UserError(f"there is no option {option}{hint}")


def advice(word: str, known: Collection[str], shown: Callable[[str], str], setting: Callable[[str], str]) -> str:
    """Return how a message on an unknown option goes on.

    Args:
        word: the option, with underscores.
        known: the options that there are, likewise; with ``sets`` where there are hyper-parameters.
        shown: how an option is written.
        setting: how a hyper-parameter such as ``train.epochs`` is given.
    """
    if meant := Elsewhere(_RENAMED).known_as(word, known):
        return f'; did you mean "{shown(meant)}"?'
    if _SETS in known and (hint := _setting(word, setting)):
        return hint
    close = difflib.get_close_matches(word, known, n=1)
    return f'; did you mean "{shown(close[0])}"?' if close else f"; there is: {', '.join(map(shown, sorted(known)))}"


def _setting(name: str, setting: Callable[[str], str]) -> str | None:
    """Return how a setting of the training or of a method is given, if this is one here or elsewhere."""
    if name in _EXPLAINED:
        return f": {_EXPLAINED[name]}"
    # Not before it is needed: the command line starts without the large libraries.
    from parbench.bench.train.settings import TrainingSettings
    from parbench.methods.lora import LoraSetting

    owners = (("train", TrainingSettings), ("METHOD", LoraSetting))
    for owner, kind in owners:
        if here := kind.elsewhere.known_as(name, kind.model_fields):
            return f"; give it as {setting(f'{owner}.{here}')}"
    words = (kind.elsewhere.explained.get(name) for _, kind in owners)
    return next((f": {text}" for text in words if text), None)
