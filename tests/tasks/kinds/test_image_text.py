"""Images with prompts: how they are put together, batched, trained on, answered and ranked."""

import io

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from parbench.bench.util.errors import UserError
from parbench.tasks.data.digits import digit_images, png
from parbench.tasks.data.thumbnail import PICTURE_SIDE, thumbnail
from parbench.tasks.inference import IGNORED
from parbench.tasks.kinds.image_text import PICTURED, ImageTextChoice
from parbench.tasks.kinds.image_text_rows import batch_of
from parbench.tasks.kinds.text_generation import Template
from tests.support.image_questions import COMMON, QUESTIONS, checked, files, questions
from tests.support.pictures import encoded, picture, png_header
from tests.support.tiny_vlm import IMAGE, PLACES, predictor_of, tiny_vlm, vlm_processor

CHAT = (
    "{% for turn in messages %}{{ turn['role'] }}: {% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
PAIRS = ImageTextChoice(
    **COMMON, images=("left", "right"), prompt_template=Template("{text}"), choices=("no", "yes"), label="label"
)


def text_of(row, processor):
    return processor.tokenizer.decode(row["input_ids"])


def test_a_row_has_the_images_tokens_the_text_and_the_response_it_is_trained_on():
    processor = vlm_processor()
    row = QUESTIONS.prepare(checked(QUESTIONS, questions()), processor, 100)[1]
    assert text_of(row, processor) == f"{IMAGE * PLACES}\nwhat is it ? thing 1thing 1</s>"
    asked = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert processor.tokenizer.decode(asked) == " thing 1thing 1</s>"
    assert row["pixel_values"].shape == (1, 3, 8, 8)


def test_a_chat_template_places_the_image_and_takes_the_blank_of_the_response():
    processor = vlm_processor(CHAT)
    rows = checked(QUESTIONS, questions())
    row = QUESTIONS.prepare(rows, processor, 100)[0]
    assert text_of(row, processor) == f"user: {IMAGE * PLACES}what is ?assistant: thing 0</s>"
    plain = QUESTIONS.configured({"layout": "plain"}).prepare(rows, processor, 100)[0]
    assert text_of(plain, processor) == f"{IMAGE * PLACES}\nwhat is ? thing 0</s>"


def test_images_are_resized_where_a_model_takes_several_sizes():
    rows = checked(QUESTIONS, questions())
    row = QUESTIONS.configured({"image_size": 16}).prepare(rows, vlm_processor(), 100)[0]
    assert row["pixel_values"].shape == (1, 3, 16, 16)
    assert row["input_ids"].count(vlm_processor().image_token_id) == 16


def test_images_stand_where_the_template_has_them():
    from dataclasses import replace

    task = replace(PAIRS, prompt_template=Template("A <image> B <image>: {text}"))
    data = pairs(2)
    processor = vlm_processor()
    row = task.prepare(checked(task, data), processor, 100)[0]
    assert text_of(row, processor) == f"A {IMAGE * PLACES} B {IMAGE * PLACES}: same? no</s>"
    assert row["pixel_values"].shape[0] == 2
    with pytest.raises(UserError, match="has 2 images in row 1, and the prompt has <image> 1 times"):
        checked(replace(PAIRS, prompt_template=Template("A <image>: {text}")), data)


def pairs(count=4):
    columns = {"left": files(count), "right": files(count, 50), "text": ["same?"] * count}
    return Dataset.from_dict(
        {**columns, "no": ["no"] * count, "yes": ["yes, it is"] * count, "label": [n % 2 for n in range(count)]}
    )


def test_a_list_of_images_is_a_column_too():
    data = questions(2).remove_columns("image").add_column("image", [files(1), files(3)])
    rows = QUESTIONS.prepare(checked(QUESTIONS, data), vlm_processor(), 100)
    assert [rows[row]["pixel_values"].shape[0] for row in range(2)] == [1, 3]
    assert rows[1]["input_ids"].count(vlm_processor().image_token_id) == 3 * PLACES


def test_what_is_too_long_is_refused_when_it_is_prepared_and_a_response_loses_its_end():
    rows = checked(QUESTIONS, questions())
    row = QUESTIONS.prepare(rows, vlm_processor(), 30)[0]
    assert len(row["input_ids"]) == 23
    cut = QUESTIONS.prepare(rows, vlm_processor(), 27)[4]
    assert (len(cut["input_ids"]), cut["labels"][-1]) == (27, cut["input_ids"][-1])
    with pytest.raises(UserError, match=r"example test:4 has 26 tokens with its images, and train.max_length is 26"):
        QUESTIONS.prepare(rows, vlm_processor(), 26)
    small = vlm_processor()
    small.tokenizer.model_max_length = 30
    with pytest.raises(UserError, match="a prompt of 26 tokens with its images and max_new_tokens 5"):
        QUESTIONS.prepare(rows, small, 30)


def test_a_text_with_the_token_of_an_image_is_refused():
    data = questions(2, question=["what?", "and <image> this?"])
    with pytest.raises(UserError, match='example test:1 of my/pictures has "<image>" in its text'):
        QUESTIONS.prepare(checked(QUESTIONS, data), vlm_processor(), 100)


def test_rows_are_batched_as_the_processor_batches_them():
    processor = vlm_processor()
    rows = QUESTIONS.prepare(checked(QUESTIONS, questions()), processor, 100)
    prompts = rows.with_responses(None)
    for left in (False, True):
        processor.tokenizer.padding_side = "left" if left else "right"
        images = [Image.open(io.BytesIO(content)).convert("RGB") for content in files(5)]
        expected = processor(text=list(rows.prompts), images=images, padding=True, return_tensors="pt")
        found = batch_of([prompts[row] for row in range(5)], processor.tokenizer.pad_token_id, left)
        assert found.keys() - expected.keys() == {"labels"}
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name


def test_images_of_several_sizes_and_numbers_are_filled_up():
    def row(patches, height):
        ids = {"input_ids": [1, 2], "labels": [IGNORED, 2]}
        return {**ids, "pixel_values": torch.ones(1, patches, 3, height, 4), "image_sizes": torch.ones(1, 2)}

    batch = batch_of([row(2, 5), row(3, 4)], 0)
    assert batch["pixel_values"].shape == (2, 3, 3, 5, 4)
    assert batch["pixel_values"][0].sum() == 2 * 3 * 5 * 4
    assert batch["pixel_values"][1, :, :, :4].sum() == batch["pixel_values"][1].sum() == 3 * 3 * 4 * 4
    assert batch["image_sizes"].shape == (2, 2)


def test_logits_are_those_of_a_row_alone():
    rows = QUESTIONS.prepare(checked(QUESTIONS, questions()), vlm_processor(), 100)
    model, pad = tiny_vlm(), vlm_processor().tokenizer.pad_token_id
    with torch.no_grad():
        several = model(**batch_of([rows[row] for row in range(5)], pad)).logits
        for row, found in enumerate(several):
            alone = model(**batch_of([rows[row]], pad)).logits[0]
            torch.testing.assert_close(found[: len(alone)], alone, rtol=1e-4, atol=1e-4)


def test_likelihoods_do_not_depend_on_the_batch_and_are_the_models_own():
    data = checked(QUESTIONS, questions())
    processor, model = vlm_processor(), tiny_vlm()
    rows = QUESTIONS.prepare(data, processor, 100)
    found = {size: predictor_of(QUESTIONS, model, batch_size=size).log_likelihoods(rows) for size in (1, 2, 5)}
    np.testing.assert_allclose(found[1], found[5], rtol=1e-5)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-5)
    for row, content in enumerate(files(5)):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        text = f"{rows.prompts[row]}{rows.responses[row]}</s>"
        inputs = processor(text=text, images=image, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0].double().log_softmax(-1)
        ids = inputs["input_ids"][0]
        own = len(processor.tokenizer(rows.responses[row])["input_ids"]) + 1
        expected = sum(float(logits[at - 1, ids[at]]) for at in range(len(ids) - own, len(ids)))
        assert found[5][row] == pytest.approx([expected, own], rel=1e-5)


def test_another_image_gives_another_likelihood():
    model, processor = tiny_vlm(), vlm_processor()
    first, second = (
        predictor_of(QUESTIONS, model).log_likelihoods(
            QUESTIONS.prepare(checked(QUESTIONS, questions(image=images)), processor, 100)
        )
        for images in (files(5), files(5, seed=10))
    )
    assert (np.abs(first - second)[:, 0] > 1e-3).all()


def test_generated_texts_do_not_depend_on_the_batch_and_are_the_models_own():
    data = checked(QUESTIONS, questions())
    processor, model = vlm_processor(), tiny_vlm()
    rows = QUESTIONS.prepare(data, processor, 100)
    frames = [QUESTIONS.predict(predictor_of(QUESTIONS, model, batch_size=size), data, rows) for size in (1, 3)]
    assert frames[0]["text"].tolist() == frames[1]["text"].tolist()
    for row, content in enumerate(files(5)):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        inputs = processor(text=rows.prompts[row], images=image, return_tensors="pt")
        written = model.generate(**inputs, do_sample=False, max_new_tokens=5, pad_token_id=0, eos_token_id=2)
        expected = processor.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert frames[1]["text"][row] == expected


def test_the_most_likely_choice_is_predicted():
    data = checked(PAIRS, pairs())
    processor, model = vlm_processor(), tiny_vlm()
    rows = PAIRS.prepare(data, processor, 100)
    frame = PAIRS.predict(predictor_of(PAIRS, model), data, rows)
    for row in range(4):
        sums = []
        for choice in (" no", " yes, it is"):
            images = [Image.open(io.BytesIO(files(4, seed)[row])).convert("RGB") for seed in (0, 50)]
            inputs = processor(text=rows.prompts[row] + choice, images=images, return_tensors="pt")
            with torch.no_grad():
                logits = model(**inputs).logits[0].double().log_softmax(-1)
            ids = inputs["input_ids"][0]
            sums.append(sum(float(logits[at - 1, ids[at]]) for at in range(len(ids) - len(choice), len(ids))))
        assert frame["log_likelihoods"][row] == pytest.approx(sums, rel=1e-5)
        assert frame["prediction"][row] == int(np.argmax(sums))
    assert PAIRS.score(frame)["accuracy"] == (frame["prediction"] == frame["label"]).mean()


def test_a_choice_that_would_be_cut_is_refused():
    """The choices are " no" and " yes, it is", a token per byte."""
    data, processor = checked(PAIRS, pairs()), vlm_processor()
    whole = PAIRS.prepare(data, processor, 100)
    longest = max(len(whole.with_responses(None)[row]["input_ids"]) for row in range(len(whole)))
    PAIRS.prepare(data, processor, longest + len(" yes, it is"))
    with pytest.raises(UserError, match=r'choice "yes, it is", and train.max_length is .*; raise it'):
        PAIRS.prepare(data, processor, longest + len(" yes, it is") - 1)


def test_the_first_rows_have_a_small_picture_and_the_question():
    data = checked(QUESTIONS, questions(PICTURED + 2, image=[encoded(picture(800, 600))] * (PICTURED + 2)))
    frame = QUESTIONS.pictured(data, QUESTIONS.predictions(data, [""] * (PICTURED + 2)))
    assert frame["question"][1] == "what is it ?"
    assert frame["question"][PICTURED:].isna().all()
    assert frame["picture"][PICTURED:].isna().all()
    shown = Image.open(io.BytesIO(frame["picture"][0]))
    assert (shown.format, shown.size) == ("JPEG", (PICTURE_SIDE, PICTURE_SIDE * 3 // 4))
    assert len(frame["picture"][0]) < 20_000
    two = thumbnail({"example": "x", "image_1": {"bytes": files(1)[0]}, "image_2": {"bytes": files(1)[0]}})
    # Four times their 12 x 9 pixels.
    assert Image.open(io.BytesIO(two)).size == (96, 36)


def test_an_image_of_few_pixels_is_enlarged_as_it_is():
    (digit, *_), _ = digit_images()
    shown = Image.open(io.BytesIO(thumbnail({"example": "x", "image": {"bytes": png(digit)}}))).convert("L")
    assert shown.size == (56, 56)
    found = np.asarray(shown, dtype=float).reshape(8, 7, 8, 7).mean(axis=(1, 3))
    assert np.abs(found - digit).max() < 16  # of 255; a JPEG is not exact


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image", "it is none of BMP"),
        (png_header(30_000, 30_000), "900000000 pixels"),
        (png_header(9_000, 9_000), "more than 80,000,000 are not decoded"),
        (b"", "row 1 of the test split of my/pictures has no image"),
    ],
)
def test_a_hostile_file_is_named(content, reason):
    with pytest.raises(UserError, match=reason):
        QUESTIONS.check(questions(1, image=[content]), "test")


def test_columns_that_are_missing_or_hold_no_images_are_named():
    with pytest.raises(UserError, match="has no column image; it has question, answer"):
        QUESTIONS.check(questions(2).remove_columns("image"), "test")
    with pytest.raises(UserError, match="has int64 in column image, not images"):
        QUESTIONS.check(questions(2, image=[1, 2]), "test")
    with pytest.raises(UserError, match="row 2 of the test split of my/pictures has no image"):
        QUESTIONS.check(questions(2, image=[files(1), []]), "test")
