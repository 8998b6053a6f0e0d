"""Families of models that see images, of random weights: batches of images of several sizes, and their parts."""

import copy

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.methods.parts import PARTS
from parbench.methods.selection import adapted_modules
from tests.support.image_questions import QUESTIONS, checked, questions
from tests.support.pictures import encoded, picture
from tests.support.tiny_llama import byte_tokenizer
from tests.support.tiny_vlm import predictor_of

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def idefics3():
    tokenizer = byte_tokenizer()
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, do_image_splitting=True
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4)
    config = Idefics3Config(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
            "initializer_range": 0.3,
        },
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **TEXT},
        image_token_id=processor.image_token_id,
        scale_factor=2,
        pad_token_id=0,
    )
    return Idefics3ForConditionalGeneration(config), processor


def qwen2_vl():
    tokenizer = byte_tokenizer()
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 1024}, **sizes)
    processor = Qwen2VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(**sizes))
    start, end, image, video = (tokenizer.convert_tokens_to_ids(mark) for mark in marks)
    config = Qwen2VLConfig(
        vision_config={
            "depth": 1,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "mlp_ratio": 2,
            "initializer_range": 0.3,
        },
        text_config={
            "vocab_size": len(tokenizer),
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    return Qwen2VLForConditionalGeneration(config), processor


@pytest.fixture(scope="module", params=[idefics3, qwen2_vl], ids=["idefics3", "qwen2_vl"])
def made(request):
    torch.manual_seed(0)
    model, processor = request.param()
    return model.eval(), processor


@pytest.fixture(scope="module")
def data():
    sizes = [(16, 16), (40, 20), (20, 40), (33, 24)]
    return checked(QUESTIONS, questions(4, image=[encoded(picture(*size, seed=row)) for row, size in enumerate(sizes)]))


def test_likelihoods_and_texts_do_not_depend_on_the_batch(made, data):
    model, processor = made
    rows = QUESTIONS.prepare(data, processor, 400)
    assert len({len(rows[row]["input_ids"]) for row in range(4)}) > 1
    predictors = [predictor_of(QUESTIONS, model, processor, batch_size=size) for size in (1, 4)]
    one, four = (predictor.log_likelihoods(rows) for predictor in predictors)
    np.testing.assert_allclose(one, four, rtol=1e-4)
    texts = [QUESTIONS.predict(predictor, data, rows)["text"].tolist() for predictor in predictors]
    assert texts[0] == texts[1]


def test_a_whole_text_has_the_likelihood_that_its_processor_gives(made, data):
    from parbench.tasks.data.images import decoded, images_of

    model, processor = made
    rows = QUESTIONS.prepare(data, processor, 400)
    found = predictor_of(QUESTIONS, model, processor).log_likelihoods(rows)
    for row in range(4):
        images = [decoded(image, "an image") for image in images_of(data[row])]
        text = f"{rows.prompts[row]}{rows.responses[row]}</s>"
        inputs = processor(text=[text], images=[images], return_tensors="pt")
        with torch.no_grad():
            scores = model(**inputs).logits[0].double().log_softmax(-1)
        ids = inputs["input_ids"][0]
        own = len(processor.tokenizer(rows.responses[row])["input_ids"]) + 1
        expected = sum(float(scores[at - 1, ids[at]]) for at in range(len(ids) - own, len(ids)))
        assert found[row] == pytest.approx([expected, own], rel=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in PARTS if not kind.startswith("vl_bart")])
def test_the_parts_of_every_family_are_called_so(kind):
    config = AutoConfig.for_model(kind)
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 2
    if getattr(config.text_config, "layer_types", None):
        config.text_config.layer_types = config.text_config.layer_types[:2]
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    names = module_names(model)
    present = {part for name, _ in model.named_modules() for part in name.split(".")}
    assert {names.parts.vision_tower, names.parts.connector, names.parts.language_model} <= present
    assert len(names.query_value) == 4
    modules = dict(model.named_modules())
    assert all(isinstance(modules[f"model.{name}"], torch.nn.Linear) for name in names.query_value)


def test_adapters_are_on_the_language_model_and_the_connector_is_the_head(made):
    model = copy.deepcopy(made[0])
    names = module_names(model)
    parts = names.parts
    setting = METHODS["lora"].setting_type()
    adapted = METHODS["lora"].adapt(model, names, setting)
    assert len(adapted_modules(adapted)) == 2
    assert all(parts.language_model in name.split(".") for name in adapted_modules(adapted))
    groups = METHODS["lora"].parameter_groups(adapted, names, setting)
    head = {id(parameter) for group in groups if group.is_head for parameter in group.parameters}
    named = {name for name, parameter in adapted.named_parameters() if id(parameter) in head}
    assert named
    assert all(parts.connector in name.split(".") for name in named)
