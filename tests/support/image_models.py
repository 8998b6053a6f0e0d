"""What the tests of image classification share: all its tasks, a processor and a tiny vision transformer."""

import torch

from parbench.tasks import fgvc, vision, vtab
from parbench.tasks.kinds.image_classification import ImageClassification

ALL = [
    task for module in (vision, fgvc, vtab) for task in vars(module).values() if isinstance(task, ImageClassification)
]


def processor(side=8):
    from transformers import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": side, "width": side}, do_convert_rgb=True)


def vit(side=8, labels=10, width=48):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=side,
        patch_size=side // 4,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
        num_labels=labels,
    )
    return ViTForImageClassification(config)
