"""VL-BART with random weights: its parts, what it computes, and methods on it."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import set_seed

from parbench.bench.models.catalogue import find_model
from parbench.bench.models.vl_bart_parts import join
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.methods.selection import adapted_modules
from parbench.methods.testing import check_method
from parbench.tasks.base import IMAGE_TEXT_MODEL, Modality
from tests.support.image_questions import QUESTIONS, checked
from tests.support.pictures import encoded, picture
from tests.support.tiny_llama import byte_tokenizer
from tests.support.tiny_vl_bart import TINY_VL_BART, tiny_vl_bart, vl_bart_folder, vl_bart_processor
from tests.support.tiny_vlm import predictor_of


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny_vl_bart()


def rows_of(count=4, images=1):
    columns = {
        "image": [[encoded(picture(80, 60, seed=10 * row + n)) for n in range(images)] for row in range(count)],
        "question": [f"what is {'it ' * row}?" for row in range(count)],
        "answer": [f"thing {row}" * (1 + row % 2) for row in range(count)],
    }
    data = checked(QUESTIONS, Dataset.from_dict(columns))
    return data, QUESTIONS.prepare(data, vl_bart_processor(), 100)


def test_a_row_has_the_prompt_for_the_encoder_and_the_words_for_the_decoder():
    tokenizer = vl_bart_processor().tokenizer
    _, rows = rows_of()
    row = rows[1]
    assert tokenizer.decode(row["input_ids"]) == "what is it ?"
    assert row["decoder_input_ids"][:2] == [2, 1]
    assert tokenizer.decode(row["labels"][1:]) == "<s> thing 1thing 1</s>"
    assert row["labels"][1:] == row["decoder_input_ids"][1:]


def test_without_an_image_it_is_bart(model):
    ids = torch.randint(3, 250, (2, 7))
    words = torch.randint(3, 250, (2, 5))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with torch.no_grad():
        found = model(ids, mask, torch.zeros(2, 1, 3, 64, 64), words).logits
        expected = model.language_model(ids, attention_mask=mask, decoder_input_ids=words).logits
    torch.testing.assert_close(found, expected)


def test_images_are_pooled_to_boxes_in_their_order(model):
    pixels = torch.randn(2, 2, 3, 64, 64)
    with torch.no_grad():
        seen, there = model.visual_inputs(pixels)
        grid = model.vision_tower.timm_model.forward_features(pixels[1, 0][None])
        embedding = model.visual_embedding
        pooled = torch.nn.functional.adaptive_max_pool2d(grid, (2, 2))[0].flatten(1).T
        expected = embedding.feature(pooled) + embedding.box_order.weight
    torch.testing.assert_close(seen[1, :4], expected + embedding.image_order.weight[0])
    assert there.shape == (2, 8)
    assert there.all()


def test_likelihoods_and_texts_do_not_depend_on_the_batch(model):
    data, rows = rows_of()
    processor = vl_bart_processor()
    found = [predictor_of(QUESTIONS, model, processor, batch_size=size).log_likelihoods(rows) for size in (1, 4)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
    texts = [
        QUESTIONS.predict(predictor_of(QUESTIONS, model, processor, batch_size=size), data, rows)["text"].tolist()
        for size in (1, 4)
    ]
    assert texts[0] == texts[1]
    beams = QUESTIONS.configured({"num_beams": 3})
    assert len(beams.predict(predictor_of(QUESTIONS, model, processor), data, rows)) == 4


def test_a_likelihood_is_that_of_the_words_after_the_start(model):
    _, rows = rows_of(1)
    row = rows[0]
    with torch.no_grad():
        logits = model(
            torch.tensor([row["input_ids"]]),
            torch.ones(1, len(row["input_ids"]), dtype=torch.int64),
            row["pixel_values"],
            torch.tensor([row["decoder_input_ids"]]),
        ).logits[0]
    words = row["decoder_input_ids"][1:]
    scores = logits.double().log_softmax(-1)
    expected = sum(float(scores[place, word]) for place, word in enumerate(words))
    (found,) = predictor_of(QUESTIONS, model, vl_bart_processor()).log_likelihoods(rows)
    assert found == pytest.approx([expected, len(words)], rel=1e-4)


def test_it_is_saved_and_loaded_as_a_base_model(tmp_path):
    folder = vl_bart_folder(tmp_path / "vl-bart")
    base = find_model(str(folder))
    assert base.auto_class == "AutoModelForImageTextToText"
    base.check("", IMAGE_TEXT_MODEL)
    loaded = base.load(IMAGE_TEXT_MODEL, "").eval()
    processor = base.processor(Modality.IMAGE_TEXT, "")
    assert processor.decoder_start_token_id == 2
    torch.manual_seed(0)
    first, second = tiny_vl_bart().state_dict(), loaded.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_is_put_together_from_its_parts(tmp_path):
    torch.manual_seed(1)
    whole = tiny_vl_bart()
    whole.language_model.save_pretrained(tmp_path / "bart")
    byte_tokenizer().save_pretrained(tmp_path / "bart")
    whole.vision_tower.save_pretrained(tmp_path / "resnet")
    folder = join(str(tmp_path / "bart"), str(tmp_path / "resnet"), tmp_path / "joined", boxes=4)
    base = find_model(str(folder))
    drawn = []
    for seed in (1, 2):
        set_seed(seed)
        loaded = base.load(IMAGE_TEXT_MODEL, "").eval()
        drawn.append(loaded.visual_embedding.feature[0].weight.detach().clone())
    assert not torch.equal(*drawn)
    for part in ("language_model", "vision_tower"):
        expected = getattr(whole, part).state_dict()
        found = getattr(loaded, part).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    processor = base.processor(Modality.IMAGE_TEXT, "")
    (row,) = (QUESTIONS.prepare(rows_of(1)[0], processor, 100)[0],)
    assert row["pixel_values"].shape[:3] == (1, 1, 3)


def test_the_registered_model_says_how_to_put_it_together(tmp_path):
    with pytest.raises(UserError, match="put it together once, in Python"):
        find_model("vl-bart").load(IMAGE_TEXT_MODEL, "")
    with torch.device("meta"):
        skeleton = find_model("vl-bart").skeleton(IMAGE_TEXT_MODEL)
    assert 190e6 < sum(parameter.numel() for parameter in skeleton.parameters()) < 200e6


def test_adapters_are_on_bart_and_the_visual_embedding_is_the_head():
    model = TINY_VL_BART.build()
    names = module_names(model)
    adapted = METHODS["lora"].adapt(model, names, METHODS["lora"].setting_type())
    assert names.head == ("visual_embedding",)
    assert all(name.startswith("language_model.") for name in adapted_modules(adapted))
    assert len(adapted_modules(adapted)) == 2 * 3  # of the encoder, the decoder, and between the two
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert not any("vision_tower" in name for name in trained)


@pytest.mark.parametrize(
    "name",
    [
        "loca",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("lora", "dora", "vera", "fourierft", "replora")),
    ],
)
def test_a_method_keeps_the_contract_on_vl_bart(name):
    report = check_method(METHODS[name], model=TINY_VL_BART)
    assert not report.failures, f"\n{report}"
