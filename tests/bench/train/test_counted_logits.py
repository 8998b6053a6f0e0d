"""Logits are computed where a label counts and nowhere else; loss and gradient are those of all logits."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from parbench.bench.train import train as training
from parbench.bench.train.counted_logits import computes_some_logits, counted_alone
from parbench.bench.train.train import train
from parbench.tasks.inference import IGNORED
from parbench.tasks.kinds.language_model import LanguageModelTask, next_token_loss
from tests.support.tiny_vlm import IMAGE, PLACES, SIDE, tiny_vlm, vlm_processor
from tests.support.training import ROWS, bert, job, llama


class _Echo(LanguageModelTask):
    name = "echo"
    prompt = response = check = predict = score = None


def batch_of_text():
    """Padded texts with labels at the end, in the middle, at the first token, everywhere and nowhere."""
    ids = torch.randint(2, 50, (5, 9), generator=torch.Generator().manual_seed(0))
    labels = torch.full_like(ids, IGNORED)
    labels[0, 7:] = ids[0, 7:]
    labels[1, 2:5] = ids[1, 2:5]
    labels[2, 0] = ids[2, 0]
    labels[3] = ids[3]
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}, labels


def batch_of_images():
    given, labels = batch_of_text()
    token = vlm_processor().tokenizer.convert_tokens_to_ids(IMAGE)
    images = torch.full((5, PLACES), token)
    noise = torch.randn(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return {
        "input_ids": torch.cat([images, given["input_ids"]], dim=1),
        "attention_mask": torch.cat([torch.ones_like(images), given["attention_mask"]], dim=1),
        "pixel_values": noise,
    }, torch.cat([torch.full_like(images, IGNORED), labels], dim=1)


# Labels of 2, 3, none and 8 tokens, where nothing predicts the first of a text; behind an image there is what does.
@pytest.mark.parametrize(
    ("make", "batch", "places"), [(llama, batch_of_text, 2 + 3 + 8), (tiny_vlm, batch_of_images, 2 + 3 + 1 + 9)]
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_gradient_are_those_of_all_logits(make, batch, places, smoothing):
    given, labels = batch()
    found = []
    for some in (False, True):
        model = make().double()
        inputs, wanted = counted_alone(given, labels) if some else (given, labels)
        logits = model(**inputs).logits
        assert logits.shape[:-1] == ((places + 1,) if some else labels.shape)
        loss = next_token_loss(logits[None] if some else logits, wanted, smoothing)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((loss.detach(), torch.cat([gradient.flatten() for gradient in gradients])))
    assert torch.isclose(found[0][0], found[1][0], rtol=1e-12)
    assert found[0][1].norm() > 0
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-12)


def test_without_a_label_that_counts_all_is_as_it_was():
    given, labels = batch_of_text()
    for none in (torch.full_like(labels, IGNORED), labels[:, :1]):
        inputs, wanted = counted_alone(given, none)
        assert inputs is given
        assert wanted is none


def test_which_models_can():
    assert computes_some_logits(llama())
    assert computes_some_logits(tiny_vlm())
    assert computes_some_logits(get_peft_model(llama(), LoraConfig(target_modules=["q_proj"])))
    assert not computes_some_logits(
        get_peft_model(llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    )
    assert not computes_some_logits(bert())
    assert not computes_some_logits(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("packing", [False, True])
def test_a_training_is_the_same(tmp_path, monkeypatch, packing):
    rows = [[2 + (n + k) % 18 for k in range(4 + n % 3)] for n in range(ROWS)]
    labels = [[IGNORED, IGNORED, *row[2:]] for row in rows]
    data = Dataset.from_dict({"input_ids": rows, "labels": labels})
    found, places = [], []
    for some in (True, False):
        if not some:
            monkeypatch.setattr(training, "computes_some_logits", lambda model: False)
        model = llama(20)
        model.lm_head.register_forward_hook(lambda module, args, output: places.append(output.shape[:-1].numel()))
        settings = {"max_steps": 3, "batch_size": 8, "packing": packing, "length_groups": 1}
        work = job(tmp_path / str(some), model, data, rate=1e-2, task=_Echo(), **settings)
        work.collate = _Echo().collate(SimpleNamespace(pad_token_id=0))
        found.append([(entry["loss"], entry["grad_norm"]) for entry in train(work).history])
        places.append("next")
    for ours, all_of_them in zip(*found, strict=True):
        assert ours == pytest.approx(all_of_them, rel=1e-4)
    turn = places.index("next")
    assert min(places[:turn]) < min(places[turn + 1 : -1])
