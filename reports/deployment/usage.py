"""How an exported folder is loaded: what its card shows."""

from __future__ import annotations

import json

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import CONFIG_NAME

from parbench.bench.deploy.trained import TrainedRun
from parbench.bench.models.frames import read_clips
from parbench.bench.models.kind import auto_class_for
from parbench.methods.selective import TRAINED_FILE

# In place of names that the record cannot know.
FOLDER = "FOLDER"
BASE = "BASE_MODEL"
_PEFT, _OURS = "peft.", "parbench."


def usage(trained: TrainedRun, form: str) -> str:
    """Return lines of Python that load an exported folder, and what the names in them stand for.

    Args:
        trained: the run.
        form: of the export, see `parbench.bench.deploy.export.export`.
    """
    code = "\n".join(_code(trained, form))
    names = f"`{FOLDER}` is this folder, or the repository that it was uploaded to"
    names += f"; `{BASE}` is the folder of the base model." if BASE in code else "."
    return f"```python\n{code}\n```\n\n{names}"


def _code(trained: TrainedRun, form: str) -> list[str]:
    head, base_model = trained.planned.task.head, trained.planned.base_model
    weights, config = base_model.weights, base_model.config(trained.planned.spec.model_revision)
    auto = auto_class_for(config, head)
    over_frames = auto != head.auto_class
    imports = [
        *([f"from {read_clips.__module__} import {read_clips.__name__}"] if over_frames else []),
        f"from transformers import {auto}",
    ]
    if (module := type(config).__module__).startswith(_OURS):
        imports = [f"import {module}  # registers the model with transformers", *imports]
    name = FOLDER if form == "merged" else weights.location() if weights.on_hub else BASE
    labels = f", num_labels={head.num_labels}" if head.is_new and form != "merged" else ""
    loaded = f'{auto}.from_pretrained("{name}"{labels})'
    loaded = f"{read_clips.__name__}({loaded})" if over_frames else loaded
    if form == "merged":
        return [*imports, "", f"model = {loaded}"]
    if not trained.is_adapter:
        trained_file = f'load_file("{FOLDER}/{TRAINED_FILE}")'
        lines = [f"base = {loaded}", f"base.load_state_dict({trained_file}, strict=False)"]
        return ["from safetensors.torch import load_file", *imports, "", *lines]
    tuner = None if form == "lora" else _tuner(trained)
    return [
        *([f"import {tuner}  # registers the method with peft"] if tuner else []),
        "from peft import PeftModel",
        *imports,
        "",
        f"base = {loaded}",
        f'model = PeftModel.from_pretrained(base, "{FOLDER}")',
    ]


def _tuner(trained: TrainedRun) -> str | None:
    """Return the module to import before peft knows the adapter's method; ``None`` for peft's own methods."""
    config = json.loads((trained.folder / CONFIG_NAME).read_text(encoding="utf-8"))
    module = PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]].__module__
    return None if module.startswith(_PEFT) else module
