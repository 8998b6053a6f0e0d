"""Base models: where their weights come from, how they are loaded, counted and converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.bench.util.registry import Registry

if TYPE_CHECKING:
    from parbench.bench.models.base_model import BaseModel

MODELS: Registry[BaseModel] = Registry("base model")
MODELS.register(
    "minilm-l6",
    "parbench.bench.models.catalogue:MINILM_L6",
    "MiniLM-L6-H384, 22.7 M, sentence-tuned: the mini suite's encoder",
)
MODELS.register(
    "bert-tiny", "parbench.bench.models.catalogue:BERT_TINY", "BERT-L2-H128, 4.4 M, retrieval-tuned: for quick tests"
)
MODELS.register(
    "mpnet-base",
    "parbench.bench.models.catalogue:MPNET_BASE",
    "MPNet-base, 109 M, sentence-tuned, of RoBERTa-base's shape; a download of 400 MB",
)
MODELS.register(
    "smollm2-135m",
    "parbench.bench.models.catalogue:SMOLLM2_135M",
    "SmolLM2-135M-Instruct out of 4 bits, a Llama: the mini suite's language model",
)
MODELS.register(
    "vit-s-14",
    "parbench.bench.models.catalogue:VIT_S_14",
    "ViT-S/14 in DINOv2's shape, 22 M, the backbone of a saliency model and not stock DINOv2: the mini suite's vision",
)
MODELS.register(
    "vit-s-smollm2",
    "parbench.bench.models.catalogue:VIT_S_SMOLLM2",
    "the two above in LLaVA's shape, 157 M, with a connector that each run trains: the mini suite's images with text",
)
MODELS.register(
    "vl-bart",
    "parbench.bench.models.catalogue:VL_BART",
    "BART-base over the features of CLIP's ResNet-101, 196 M, put together from its parts",
)
MODELS.register(
    "vl-bart-video",
    "parbench.bench.models.catalogue:VL_BART_VIDEO",
    "BART-base over given features of videos, such as CLIP ViT-B/32's, 140 M, put together from BART",
)
MODELS.register("roberta-base", "parbench.bench.models.catalogue:ROBERTA_BASE", "RoBERTa-base, 125 M")
MODELS.register("roberta-large", "parbench.bench.models.catalogue:ROBERTA_LARGE", "RoBERTa-large, 355 M")
MODELS.register("gpt2-medium", "parbench.bench.models.catalogue:GPT2_MEDIUM", "GPT-2 medium, 355 M")
MODELS.register("gpt2-large", "parbench.bench.models.catalogue:GPT2_LARGE", "GPT-2 large, 774 M")
MODELS.register("vit-base", "parbench.bench.models.catalogue:VIT_BASE", "ViT-base/16 of 224 pixels, ImageNet-21k, 86 M")
MODELS.register(
    "vit-large", "parbench.bench.models.catalogue:VIT_LARGE", "ViT-large/16 of 224 pixels, ImageNet-21k, 304 M"
)
for _size, _parameters in (("t", 28), ("s", 50), ("b", 88)):
    MODELS.register(
        f"swin3d-{_size}",
        f"parbench.bench.models.catalogue:SWIN3D_{_size.upper()}",
        f"Video Swin-{_size.upper()} of 224 pixels, Kinetics-400, {_parameters} M, torchvision's weights",
    )
MODELS.register(
    "swin3d-b-22k",
    "parbench.bench.models.catalogue:SWIN3D_B_22K",
    "Video Swin-B of 224 pixels, ImageNet-22K and Kinetics-400, 88 M, torchvision's weights",
)
MODELS.register("llama-7b", "parbench.bench.models.catalogue:LLAMA_7B", "LLaMA 7B")
MODELS.register("llama-3.2-3b", "parbench.bench.models.catalogue:LLAMA_3_2_3B", "Llama 3.2 3B")
