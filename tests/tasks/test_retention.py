import gzip
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from parbench.bench.util.errors import UserError
from parbench.tasks import TASKS
from parbench.tasks.base import LANGUAGE_MODEL
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.glue import SST2
from parbench.tasks.retention import (
    CHUNKS,
    NEUTRAL_SYSTEM_PROMPT,
    TOKENS,
    check_measurable,
    chunks,
    general_text,
    measure,
)
from tests.support.data import fetched

CPU = torch.device("cpu")
WORDS = [f"w{number}" for number in range(60)]
TEXT = " ".join(np.random.default_rng(0).choice(WORDS, CHUNKS * TOKENS + 1000))


def make_tokenizer(special=None):
    names = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", *WORDS]
    fast = Tokenizer(models.WordLevel({word: n for n, word in enumerate(names)}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        fast.post_processor = processors.TemplateProcessing(single=special, special_tokens=[("[BOS]", 1), ("[EOS]", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]", unk_token="[UNK]"
    )


def make_model(positions=300):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=positions, initializer_range=0.5, bos_token_id=1
    )
    return GPT2LMHeadModel(config)


@pytest.mark.parametrize(
    ("special", "start"), [(None, []), ("[BOS] $A", [1]), ("[BOS] $A [EOS]", [1]), ("$A [EOS]", [])]
)
def test_the_measure_is_the_mean_log_likelihood_of_the_chunks_tokens(special, start):
    tokenizer, model = make_tokenizer(special), make_model().train()
    found = measure(model, tokenizer, TEXT, CPU, batch_size=5)
    assert model.training
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    places = np.linspace(0, len(ids) - TOKENS, CHUNKS).astype(int)
    model.eval()
    rows = torch.tensor([start + ids[place : place + TOKENS] for place in places])
    with torch.no_grad():
        likelihoods = model(rows).logits.log_softmax(-1)[:, :-1].gather(2, rows[:, 1:, None])
    assert likelihoods.shape[1] == TOKENS - 1 + len(start)
    assert found == pytest.approx(float(likelihoods.mean()), abs=1e-5)


def test_the_chunks_are_spread_over_the_text_and_none_lies_over_another():
    tokenizer = make_tokenizer()
    for words in (TEXT, " ".join(TEXT.split()[: CHUNKS * TOKENS])):
        ids = tokenizer(words).input_ids
        _, found = chunks(tokenizer, words)
        assert [len(piece) for piece in found] == [TOKENS] * CHUNKS
        assert (found[0], found[-1]) == (ids[:TOKENS], ids[-TOKENS:])
        places = np.linspace(0, len(ids) - TOKENS, CHUNKS).astype(int)
        assert (np.diff(places) >= TOKENS).all()
    with pytest.raises(UserError, match="has 16,383 tokens"):
        chunks(tokenizer, " ".join(TEXT.split()[: CHUNKS * TOKENS - 1]))


def test_a_measurement_is_the_same_whatever_the_batch_and_draws_no_random_number():
    tokenizer, model = make_tokenizer(), make_model()
    model.config.attn_pdrop = 0.1
    state = torch.get_rng_state()
    found = [measure(model.train(), tokenizer, TEXT, CPU, batch_size=size) for size in (3, 64)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_adapted_model_is_measured_with_its_adapter():
    tokenizer, model = make_tokenizer(), make_model()
    before = measure(model, tokenizer, TEXT, CPU)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    assert measure(adapted, tokenizer, TEXT, CPU) == pytest.approx(before, abs=1e-6)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert measure(adapted, tokenizer, TEXT, CPU) != pytest.approx(before, abs=1e-2)


def test_a_model_that_reads_a_system_prompt_is_measured_under_it():
    tokenizer = make_tokenizer()
    asked = []

    class Told(torch.nn.Module):
        """Is twice as sure of everything under a prompt."""

        def __init__(self):
            super().__init__()
            self.inner, self.sure = make_model(), 1.0

        def forward(self, **inputs):
            found = self.inner(**inputs)
            found.logits = self.sure * found.logits
            return found

        @contextmanager
        def specialised(self, system_prompt, name=None):
            asked.append((list(system_prompt), name))
            self.sure = 2.0
            yield
            self.sure = 1.0

    model = Told()
    plain = measure(model, tokenizer, TEXT, CPU)
    told = measure(model, tokenizer, TEXT, CPU, system_prompt=[5, 6])
    assert asked == [([5, 6], None)]
    model.sure = 2.0
    assert told == measure(model, tokenizer, TEXT, CPU) != plain


def test_the_description_names_the_system_prompt():
    text = general_text("hub", RevisionLock(Path("lock.json")))
    assert (
        text.describe(reads_system_prompt=True)
        == f'{text.describe()}, under the system prompt "{NEUTRAL_SYSTEM_PROMPT}"'
    )


def test_what_has_no_language_model_head_is_refused():
    check_measurable(LANGUAGE_MODEL)
    with pytest.raises(UserError, match="no language-model head"):
        check_measurable(SST2.head)
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with pytest.raises(UserError, match="BertForSequenceClassification has no language-model head"):
        measure(BertForSequenceClassification(config), make_tokenizer(), TEXT, CPU)


def test_a_model_of_too_few_positions_is_refused():
    with pytest.raises(UserError, match=r"chunks of 257 tokens.*takes 256"):
        measure(make_model(256), make_tokenizer("[BOS] $A"), TEXT, CPU)


def test_a_local_text_goes_before_the_suites(tmp_path):
    lock = RevisionLock(tmp_path / "lock.json")
    assert general_text("hub", lock).revision() == "b08601e04326c79dfdd32d625aee71d232d685c3"
    assert general_text("package", lock, tmp_path).revision() == VALIDATION_SPLITS.revision
    folder = tmp_path / "lm-text" / "wikitext-2"
    folder.mkdir(parents=True)
    (folder / "test.txt").write_text(" = Title = \n\n Some text é .\n", encoding="utf-8")
    plain = general_text("package", lock, tmp_path)
    assert plain.read() == " = Title = \n\n Some text é .\n"
    assert plain.describe() == "WikiText-2 test, local copy, 64 chunks of 256 tokens"
    revision = plain.revision()
    content = (folder / "test.txt").read_bytes()
    (folder / "test.txt").unlink()
    (folder / "test.txt.gz").write_bytes(gzip.compress(content))
    packed = general_text("hub", lock, tmp_path)
    assert (packed.read(), packed.revision()) == (content.decode(), revision)
    (folder / "test.txt.gz").write_bytes(gzip.compress(content)[:-12])
    with pytest.raises(UserError, match="cannot be read as text"):
        packed.read()
    (folder / "test.txt.gz").write_bytes(gzip.compress("é".encode("latin-1")))
    with pytest.raises(UserError, match="UTF-8"):
        packed.revision()


def test_the_prose_of_the_package_is_not_a_tasks_training_data(tmp_path):
    fetched(VALIDATION_SPLITS)
    text = general_text("package", RevisionLock(tmp_path / "lock.json")).read()
    paragraphs = text.split("\n\n")
    assert len(paragraphs) == len(set(paragraphs)) > 800
    assert len(text) > 400_000
    assert not [name for name in TASKS if "sciq" in name]


def test_wikitext_2(real_data, tmp_path):
    text = general_text("package", RevisionLock(tmp_path / "lock.json"), real_data)
    assert text.read().startswith(" \n = Robert <unk> = \n")
    assert text.revision().startswith("sha256:")
