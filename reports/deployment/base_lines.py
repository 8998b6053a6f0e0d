"""The lines of a card that load the base model as the run was trained on it."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.bench.deploy.trained import TrainedRun
from parbench.bench.models.kind import auto_class_for
from parbench.bench.util.base_precision import FLOAT32, QUANTISED
from parbench.methods.architecture import module_names
from parbench.methods.quantisation import unquantised_layers

_QUANTISED = {
    # The values of `parbench.methods.quantised_layers`; blocks of 64 are the library's default.
    "nf4": (
        'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
        "bnb_4bit_compute_dtype=torch.bfloat16"
    ),
    "int8": "load_in_8bit=True, llm_int8_threshold=6.0",
}


@dataclass(frozen=True)
class BaseLines:
    """Lines of Python.

    Attributes:
        imports: what the others need.
        before: to be put before the base model is loaded.
        arguments: of ``from_pretrained``.
        after: to be put behind.
        remark: what these lines do not reproduce; empty where they reproduce the run.
    """

    imports: tuple[str, ...]
    arguments: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    remark: str = ""


def base_lines(trained: TrainedRun, with_parbench: bool) -> BaseLines:
    """Return the lines that load the base model in the precision of a run, with its padding token.

    Args:
        trained: the run.
        with_parbench: whether the card imports parbench in any case; its own layers then hold quantised weights.
    """
    planned = trained.planned
    precision = planned.spec.base_precision
    padding = _padding(trained)
    if precision == FLOAT32:
        return BaseLines(("import torch",), ", dtype=torch.float32", after=padding)
    skeleton = planned.base_model.skeleton(planned.task.head)
    head = list(module_names(skeleton).head)
    convert = f'convert_base(base, "{precision}", {head})'
    module = "from parbench.methods.quantisation import convert_base"
    if with_parbench:
        return BaseLines(("import torch", module), ", dtype=torch.float32", after=(*padding, convert))
    if precision in QUANTISED:
        kept = f"llm_int8_skip_modules={unquantised_layers(skeleton, head)}"
        return BaseLines(
            ("import torch", "from transformers import BitsAndBytesConfig"),
            ", dtype=torch.float32, quantization_config=quantized",
            (f"quantized = BitsAndBytesConfig({_QUANTISED[precision]}, {kept})",),
            padding,
            "On a CPU the layers of bitsandbytes round more than those that the run was scored with, and in 4 bits "
            "take no layer whose width is not a multiple of 32. Those of the run: without `quantization_config`, by "
            f"`{module}` and `{convert}` after the base model is loaded.",
        )
    heads = [name for name, _ in skeleton.named_modules() if name.rpartition(".")[2] in head]
    in_float32 = (
        f"for name in {heads}:  # the task head computes in float32",
        "    module = base.get_submodule(name).float()",
        "    module.register_forward_pre_hook(lambda module, inputs: tuple(value.float() for value in inputs))",
    )
    return BaseLines(("import torch",), ", dtype=torch.bfloat16", after=(*padding, *(in_float32 if heads else ())))


def _padding(trained: TrainedRun) -> tuple[str, ...]:
    """Return the line without which a classifier of text does not know the last token of each text of a batch."""
    planned = trained.planned
    config = planned.base_model.config(planned.spec.model_revision)
    text = config.get_text_config()
    is_read = "ForSequenceClassification" in auto_class_for(config, planned.task.head)
    if not is_read or not hasattr(text, "pad_token_id"):
        return ()
    padding = planned.base_model.padding_token(config, planned.spec.model_revision)
    return () if padding == text.pad_token_id else (f"base.config.pad_token_id = {padding}",)
