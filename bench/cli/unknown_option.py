"""What a command says of an option that it does not have: where what the user means is given here."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from parbench.bench.util.elsewhere import Elsewhere
from parbench.bench.util.errors import UserError

# Options of the commands of transformers, peft, lm-eval and of scripts beside them, by their names without dashes.
_RENAMED = {
    "--seed": "--seeds",
    "--method": "--methods",
    "--task": "--tasks",
    "--dataset": "--tasks",
    "--dataset_name": "--tasks",
    "--model_name": "--model",
    "--model_name_or_path": "--model",
    "--pretrained": "--model",
    "--base_model": "--model",
    "--model_args": "--model",
    "--output": "--out",
    "--output_dir": "--out",
    "--output_path": "--out",
    "--results": "--out",
    "--num_workers": "--workers",
    "--jobs": "--workers",
    "--include_path": "--tasks",
    "--max_train_samples": "--limit",
    "--max_eval_samples": "--evaluation-limit",
    "--data_dir": "--data-root",
    "--gpu": "--device",
    "--gpus": "--device",
}
_EXPLAINED = {
    "--load_in_4bit": "give --base-precision nf4",
    "--load_in_8bit": "give --base-precision int8",
    "--bf16": "give --set train.precision=bfloat16",
    "--fp16": "give --set train.precision=bfloat16",
    "--dtype": "give --base-precision for the frozen weights, --set train.precision=bfloat16 for what is computed",
    "--resume": "the same command resumes what was interrupted",
    "--resume_from_checkpoint": "the same command resumes what was interrupted",
    "--overwrite_output_dir": "give --overwrite always, or another --out",
    "--trust_remote_code": "code of a model's repository is never executed",
    "--num_fewshot": "it is an option of a task, as --set commonsense.num_fewshot=5",
}
_ELSEWHERE = Elsewhere(_RENAMED, _EXPLAINED)
_SET = "--set"


def refuse_unknown(arguments: Collection[str], known: Collection[str]) -> None:
    """Check that a command has every long option that it is given.

    Args:
        arguments: of the command line.
        known: the options that the command has, with their dashes.

    Raises:
        UserError: it lacks one.
    """
    for argument in arguments:
        if argument == "--":
            return
        option = argument.partition("=")[0]
        if option.startswith("--") and option not in known:
            raise UserError(f"there is no option {option}{_advice(option, known)}")


def _advice(option: str, known: Collection[str]) -> str:
    word = option.lower().replace("-", "_").replace("__", "--", 1)
    if _dashed(word) in known:
        return f'; did you mean "{_dashed(word)}"?'
    hint = _ELSEWHERE.hint(word, known) or (_setting(word.removeprefix("--")) if _SET in known else None)
    if hint:
        return hint
    plain = {name.lstrip("-"): name for name in known if name.startswith("--")}
    close = difflib.get_close_matches(_dashed(word).lstrip("-"), plain, n=1)
    return f'; did you mean "{plain[close[0]]}"?' if close else f"; there is: {', '.join(sorted(plain.values()))}"


def _dashed(word: str) -> str:
    return word.replace("_", "-")


def _setting(name: str) -> str | None:
    """Return how a setting of the training or of a method is given, if this is one here or elsewhere."""
    # Not before it is needed: the command line starts without the large libraries.
    from parbench.bench.train.settings import TrainingSettings
    from parbench.methods.lora import LoraSetting

    owners = (("train", TrainingSettings), ("METHOD", LoraSetting))
    for owner, kind in owners:
        here = kind.elsewhere.renamed.get(name, name)
        if here in kind.model_fields:
            return f'; give it as "{_SET} {owner}.{here}=VALUE"'
    words = (kind.elsewhere.explained.get(name) for _, kind in owners)
    return next((f": {text}" for text in words if text), None)
