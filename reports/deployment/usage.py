"""How an exported folder is loaded: what its card shows."""

from __future__ import annotations

import json

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import CONFIG_NAME
from transformers import PreTrainedConfig

from parbench.bench.deploy.trained import TrainedRun
from parbench.bench.models.frames import read_clips
from parbench.bench.models.kind import auto_class_for
from parbench.methods.selective import TRAINED_FILE
from parbench.reports.deployment.base_lines import base_lines

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
    imports = _imports(trained)
    if form == "merged":
        return _shown([*imports, "", f"model = {_loaded(trained, FOLDER, '')}"])
    tuner = _tuner(trained) if trained.is_adapter and form != "lora" else None
    base = base_lines(trained, with_parbench=bool(tuner) or any(_OURS in line for line in imports))
    weights, head = trained.planned.base_model.weights, trained.planned.task.head
    labels = f", num_labels={head.num_labels}" if head.is_new else ""
    loaded = _loaded(trained, weights.location() if weights.on_hub else BASE, labels + base.arguments)
    lines = ["", *base.before, f"base = {loaded}", *base.after]
    if trained.is_adapter:
        registers = [f"import {tuner}  # registers the method with peft"] if tuner else []
        imports = [*registers, *base.imports, "from peft import PeftModel", *imports]
        lines.append(f'model = PeftModel.from_pretrained(base, "{FOLDER}")')
    else:
        imports = [*base.imports, "from safetensors.torch import load_file", *imports]
        lines.append(f'base.load_state_dict(load_file("{FOLDER}/{TRAINED_FILE}"), strict=False)')
    return _shown([*imports, *lines], base.remark)


def _shown(lines: list[str], remark: str = "") -> str:
    code = "\n".join(lines)
    names = f"`{FOLDER}` is this folder, or the repository that it was uploaded to"
    names += f"; `{BASE}` is the folder of the base model." if BASE in code else "."
    return "\n\n".join(filter(None, [f"```python\n{code}\n```", names, remark]))


def _imports(trained: TrainedRun) -> list[str]:
    head, config = trained.planned.task.head, _config(trained)
    auto = auto_class_for(config, head)
    imports = [f"from transformers import {auto}"]
    if auto != head.auto_class:
        imports = [f"from {read_clips.__module__} import {read_clips.__name__}", *imports]
    if (module := type(config).__module__).startswith(_OURS):
        imports = [f"import {module}  # registers the model with transformers", *imports]
    return imports


def _loaded(trained: TrainedRun, name: str, arguments: str) -> str:
    """Return the expression that loads a model; one of images that is to read clips does so over their frames."""
    head = trained.planned.task.head
    auto = auto_class_for(_config(trained), head)
    loaded = f'{auto}.from_pretrained("{name}"{arguments})'
    return loaded if auto == head.auto_class else f"{read_clips.__name__}({loaded})"


def _config(trained: TrainedRun) -> PreTrainedConfig:
    return trained.planned.base_model.config(trained.planned.spec.model_revision)


def _tuner(trained: TrainedRun) -> str | None:
    """Return the module to import before peft knows the adapter's method; ``None`` for peft's own methods."""
    config = json.loads((trained.folder / CONFIG_NAME).read_text(encoding="utf-8"))
    module = PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]].__module__
    return None if module.startswith(_PEFT) else module
