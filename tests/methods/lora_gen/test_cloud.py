"""The meta tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, BertConfig, BertForMaskedLM, PreTrainedModel

from parbench.methods.lora_gen import LoraGenConfig
from parbench.methods.lora_gen.cloud import MetaTokenEncoder

CLOUDS = ["llama", "gpt2", "opt"]


def encoder(cloud: PreTrainedModel, layers: int = 2, **options: object) -> MetaTokenEncoder:
    model = MetaTokenEncoder(cloud, layers, LoraGenConfig(**options)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("embedding", ["shared", "distinct"])
def test_a_meta_token_is_a_new_word_after_the_prompt(
    make_model: Callable[[str], PreTrainedModel], prompts: tuple[Tensor, Tensor], name: str, embedding: str
) -> None:
    """The same by another way: in a vocabulary grown by the meta tokens, each prompt alone and unpadded."""
    model = encoder(make_model(name), meta_embedding=embedding)
    vectors = model(*prompts)
    merged = model.cloud.merge_and_unload()
    size = merged.get_input_embeddings().weight.shape[0]
    new = len(model.meta_embedding)
    merged.resize_token_embeddings(size + new, mean_resizing=False)
    merged.get_input_embeddings().weight.data[size:] = model.meta_embedding
    for ids, mask, vector in zip(*prompts, vectors, strict=True):
        words = torch.cat([ids[mask.bool()], size + torch.arange(2) % new])
        states = merged(input_ids=words[None], output_hidden_states=True)
        last = merged.base_model(input_ids=words[None]).last_hidden_state[0]
        torch.testing.assert_close(vector, last[-2:])
        # It is what the language model's head reads.
        torch.testing.assert_close(merged.get_output_embeddings()(vector), states.logits[0, -2:])


def test_later_meta_tokens_and_padding_do_not_matter(
    make_model: Callable[[str], PreTrainedModel], prompts: tuple[Tensor, Tensor]
) -> None:
    ids, mask = prompts
    model = encoder(make_model("llama"), layers=3)
    vectors = model(ids, mask)
    torch.testing.assert_close(model(torch.where(mask.bool(), ids, 7), mask), vectors)
    model.layers = 2
    torch.testing.assert_close(model(ids, mask), vectors[:, :2])


def test_no_mask_means_no_padding(make_model: Callable[[str], PreTrainedModel], prompts: tuple[Tensor, Tensor]) -> None:
    model = encoder(make_model("gpt2"))
    ids = prompts[0]
    torch.testing.assert_close(model(ids), model(ids, torch.ones_like(ids)))


def test_vocabulary_stays_and_only_query_and_value_are_adapted(make_model: Callable[[str], PreTrainedModel]) -> None:
    cloud = make_model("llama")
    before = cloud.get_input_embeddings().weight.clone()
    model = encoder(cloud, layers=5)
    torch.testing.assert_close(model.cloud.get_input_embeddings().weight, before, rtol=0, atol=0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert model.meta_embedding.shape == (1, 16)
    assert len(trained) == 1 + 2 * 2 * 2
    assert all("q_proj" in name or "v_proj" in name for name in trained - {"meta_embedding"})


def test_embedding_starts_like_the_vocabulary(make_model: Callable[[str], PreTrainedModel]) -> None:
    cloud = make_model("llama")
    words = cloud.get_input_embeddings().weight.data
    words.mul_(0.1).add_(3.0)
    meta = MetaTokenEncoder(cloud, 500, LoraGenConfig(meta_embedding="distinct")).meta_embedding
    torch.testing.assert_close(meta.mean(dim=0), words.mean(dim=0), rtol=0, atol=0.05)
    torch.testing.assert_close(meta.std(dim=0), words.std(dim=0), rtol=0.2, atol=0)


def test_what_cannot_serve_as_cloud_is_refused(make_model: Callable[[str], PreTrainedModel]) -> None:
    with pytest.raises(ValueError, match="load it with AutoModelForCausalLM"):
        encoder(AutoModel.from_config(make_model("llama").config))
    small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    with pytest.raises(ValueError, match="the cloud model is a BertForMaskedLM; load it with"):
        encoder(BertForMaskedLM(BertConfig(vocab_size=40, **small)))
    cloud = make_model("llama")
    encoder(cloud)
    with pytest.raises(ValueError, match="has an adapter already"):
        encoder(cloud)
    fused = make_model("gpt2")
    fused.config.model_type = "unheard-of"
    with pytest.raises(ValueError, match="name them in cloud_target_modules"):
        encoder(fused)
    assert any("c_proj" in name for name, _ in encoder(fused, cloud_target_modules=("attn.c_proj",)).named_parameters())


def test_too_long_a_prompt_is_refused(make_model: Callable[[str], PreTrainedModel]) -> None:
    model = encoder(make_model("gpt2"))
    assert model(torch.ones(1, 30, dtype=torch.long)).shape == (1, 2, 16)
    with pytest.raises(ValueError, match=r"31 tokens and 2 meta tokens exceed .* 32 positions; shorten it to 30"):
        model(torch.ones(1, 31, dtype=torch.long))
