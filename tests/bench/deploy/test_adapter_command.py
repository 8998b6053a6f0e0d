"""`bench adapter` on runs of a tiny model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from parbench.bench.deploy.plain_peft import torchvision_hook
from parbench.bench.deploy.trained import Whereabouts, find_trained
from parbench.bench.store.deployments import folder_of, read_deployments
from parbench.bench.store.layout import PREDICTIONS
from parbench.reports.tables import SMALL_LABEL
from tests.support.data import sentences, write_jsonl
from tests.support.upload_stub import upload_hub

_WITHOUT_PARBENCH = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

base, adapter, merged = sys.argv[1:]
ids = torch.tensor([[2, 5, 6, 7, 3]])
one = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base), adapter).eval()
other = AutoModelForSequenceClassification.from_pretrained(merged).eval()
with torch.no_grad():
    print(json.dumps([model(input_ids=ids).logits.tolist() for model in (one, other)]))
assert not any(name.startswith("parbench") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def adapter(tiny_model, trained_store):
    """Where the runs of the store had their base model."""
    return ("--model", tiny_model, "--out", trained_store.root)


@pytest.fixture(scope="module")
def data(tiny_data):
    """Where they had their data."""
    return ("--data-root", tiny_data)


def test_exported_folders_are_loaded_without_parbench(bench, adapter, run_of, tiny_model, trained_store, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    run = run_of("loca")
    for options in (("--as", "lora", "--rank", "32"), ("--merged",)):
        result = bench("adapter", "export", run[:6], "--to", tmp_path / options[0], *options, *adapter)
        assert result.code == 0, result.err
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            torchvision_hook() + _WITHOUT_PARBENCH,
            tiny_model,
            tmp_path / "--as",
            tmp_path / "--merged",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    as_lora, merged = json.loads(shown.stdout)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(base, str(trained_store.runs / run / "adapter")).eval()
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[2, 5, 6, 7, 3]])).logits
    torch.testing.assert_close(torch.tensor(merged), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.tensor(as_lora), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "options", "library"),
    [
        ("lora", (), "peft"),
        ("loca", (), "peft"),
        ("loca", ("--as", "lora", "--rank", "32"), "peft"),
        ("loca", ("--merged",), "transformers"),
        ("bitfit", (), "transformers"),
        ("bitfit", ("--merged",), "transformers"),
    ],
)
def test_the_lines_of_the_card_load_the_folder(
    bench, adapter, run_of, tiny_model, trained_store, tmp_path, method, options, library
):
    """In a process that has nothing else; only a tuner of ours needs parbench."""
    folder, run = tmp_path / "mine", run_of(method)
    result = bench("adapter", "export", run, "--to", folder, *options, *adapter)
    assert result.code == 0, result.err
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == library
    lines = text.partition("```python\n")[2].partition("```")[0]
    assert ("parbench" in lines) == (method == "loca" and not options)
    assert ("`BASE_MODEL` is the folder of the base model." in text) == (options != ("--merged",))
    lines = lines.replace('"FOLDER', f'"{folder}').replace("BASE_MODEL", str(tiny_model))
    name = "base" if "model = " not in lines else "model"
    shown = f"import torch, json\nprint(json.dumps({name}.eval()(torch.tensor([[2, 5, 6, 7, 3]])).logits.tolist()))"
    arguments = [sys.executable, "-c", f"{torchvision_hook()}\n{lines}\n{shown}"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    where = Whereabouts(base_model=str(tiny_model))
    with torch.no_grad():
        expected = find_trained(trained_store, run, where).model().eval()(torch.tensor([[2, 5, 6, 7, 3]])).logits
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), expected, rtol=1e-3, atol=1e-4)


def test_the_card_of_a_converted_lora_is_of_what_the_folder_has(bench, adapter, run_of, tmp_path):
    folder = tmp_path / "mine"
    result = bench("adapter", "export", run_of("loca"), "--to", folder, "--as", "lora", "--rank", "0.999", *adapter)
    assert result.code == 0, result.err
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "converted to a LoRA of a share of 0.999 of each update's energy" in text
    file = folder / "adapter_model.safetensors"
    numbers = sum(tensor.numel() for name, tensor in load_file(file).items() if ".lora_" in name)
    assert f"| parameters of this LoRA | {numbers:,} |" in text
    assert f"| its file (bytes, with the task head) | {file.stat().st_size:,} |" in text
    # What is lost of the energy is the square of the error's norm.
    (error,) = re.findall(r"lost of the updates by the conversion \(Frobenius norm, relative\) \| ([\d.e-]+) \|", text)
    assert 0 < float(error) ** 2 <= 0.00101
    assert "| parameters of the original, as the paper counts |" in text


def test_the_card_says_what_the_record_says(bench, adapter, run_of, trained_store, tmp_path):
    run = run_of("lora")
    assert bench("adapter", "export", run, "--to", tmp_path / "mine", *adapter).code == 0
    assert (tmp_path / "mine" / "adapter_model.safetensors").read_bytes() == (
        trained_store.runs / run / "adapter" / "adapter_model.safetensors"
    ).read_bytes()
    text = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    _, metadata, body = text.split("---\n", 2)
    assert yaml.safe_load(metadata) == {"library_name": "peft", "license": "unknown", "tags": ["parbench", "lora"]}
    record = trained_store.find(run)
    assert record.spec.model_revision in body
    assert record.spec.data_revision in body
    assert f"| accuracy | {100 * record.metrics['accuracy']:.1f} [" in body
    assert SMALL_LABEL in body
    assert "LoRA: Low-Rank Adaptation of Large Language Models" in body


def test_what_cannot_be_exported_is_one_sentence(bench, adapter, run_of, tmp_path):
    def refused(*options):
        result = bench("adapter", "export", *options, *adapter)
        assert result.code == 2
        assert result.out == ""
        return result.err

    (tmp_path / "there").mkdir()
    lora, bitfit = run_of("lora"), run_of("bitfit")
    assert "is there already" in refused(lora, "--to", tmp_path / "there")
    assert "give one of the two" in refused(lora, "--to", tmp_path / "x", "--as", "lora", "--merged")
    assert "cannot be converted to a LoRA of rank 99" in refused(
        lora, "--to", tmp_path / "x", "--as", "lora", "--rank", 99
    )
    assert "neither a rank nor a share" in refused(lora, "--to", tmp_path / "x", "--as", "lora", "--rank", "0")
    assert "which are no LoRA" in refused(bitfit, "--to", tmp_path / "x", "--as", "lora")
    assert "no run begins with" in refused("zzz", "--to", tmp_path / "x")
    assert "give --as lora as well" in refused(lora, "--to", tmp_path / "x", "--rank", 8)
    assert "give --publish as well" in refused(lora, "--to", tmp_path / "x", "--hub", "someone/mine")
    assert "give --hub OWNER/NAME" in refused(lora, "--to", tmp_path / "x", "--publish")
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("mine")
    assert "or give another --to" in refused(lora, "--to", tmp_path / "file" / "below")


def test_the_base_model_must_be_that_of_the_run(bench, adapter, run_of, tiny_model, trained_store, tmp_path):
    other = shutil.copytree(tiny_model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.5}))
    run = run_of("lora")
    result = bench("adapter", "export", run, "--to", tmp_path / "x", "--model", other, "--out", trained_store.root)
    assert "is at revision" in result.err
    result = bench("adapter", "export", run, "--to", tmp_path / "x", "--out", trained_store.root)
    assert "name the base model of the run with --model" in result.err
    assert result.code == 2


def test_the_hub_is_written_to_with_the_users_token_only(bench, adapter, run_of, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    run = run_of("lora")
    with upload_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr("parbench.bench.deploy.export.get_token", lambda: None)
        result = bench("adapter", "export", run, "--to", tmp_path / "a", "--hub", "someone/mine", "--publish", *adapter)
        assert result.code == 2
        assert "there is no token" in result.err
        assert f'The folder "{tmp_path / "a"}" is written: upload it with "hf upload someone/mine' in result.err
        assert not hub.repositories
        monkeypatch.setattr("parbench.bench.deploy.export.get_token", lambda: "hf_mine")
        result = bench("adapter", "export", run, "--to", tmp_path / "b", "--hub", "someone/mine", "--publish", *adapter)
    assert result.code == 0, result.err
    assert "commit" in result.out
    assert "hf_mine" not in result.out
    assert hub.tokens == {"Bearer hf_mine"}
    assert [(asked["name"], asked["visibility"]) for asked in hub.repositories] == [("mine", "private")]
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}


def test_what_is_measured_is_recomputed_by_hand(bench, adapter, data, run_of, trained_store, monkeypatch):
    monkeypatch.setattr("parbench.bench.deploy.measure.why_not_plain_peft", lambda *arguments: "not tried")
    result = bench("adapter", "measure", "--sizes", "1,32,99,0.5", *adapter, *data)
    assert result.code == 0, result.err
    assert "bitfit trains weights of the base model itself" in result.out
    assert not [path for path in (trained_store.root / "deployment").iterdir() if path.name.startswith(".")]
    found = {entry.run_id: entry for entry in read_deployments(trained_store)}
    assert set(found) == {run_of("lora"), run_of("loca"), run_of("dora")}
    loca = found[run_of("loca")]
    assert (loca.kind, loca.rank, loca.targets, loca.whole_modules) == (
        "LOCA",
        None,
        ("query", "value"),
        ("classifier",),
    )
    assert [merge.difference < 1e-4 * merge.largest for merge in loca.merges] == [True, False]
    assert loca.switched == found[run_of("lora")].mixed == ""
    assert loca.mixed
    assert found[run_of("dora")].variant == "dora"
    by_target = {conversion.target: conversion for conversion in loca.conversions}
    assert "larger" in by_target["99"].reason
    assert by_target["32"].error < 1e-5 < by_target["1"].error
    run = trained_store.runs / run_of("loca")
    rows = pd.read_parquet(run / PREDICTIONS)
    folder = trained_store.root / "deployment" / run.name
    for target in ("as loaded", "32"):
        again = pd.read_parquet(folder / by_target[target].rows)
        assert list(again["prediction"]) == list(rows["prediction"])
    lost = {
        target: (rows["prediction"] == rows["label"]).mean() - (one["prediction"] == one["label"]).mean()
        for target in ("1", "32", "0.5")
        if (one := pd.read_parquet(folder / by_target[target].rows)) is not None
    }
    _check_report(bench, trained_store, lost)


def test_targets_that_are_nearly_alike_are_measured_apart(bench, adapter, data, run_of, trained_store, monkeypatch):
    monkeypatch.setattr("parbench.bench.deploy.measure.why_not_plain_peft", lambda *arguments: "not tried")
    asked = ("--sizes", "0.9999999,1,0.50,0.5", "--again")
    assert bench("adapter", "measure", run_of("lora"), *asked, *adapter, *data).code == 0
    (found,) = (entry for entry in read_deployments(trained_store) if entry.run_id == run_of("lora"))
    targets = [conversion.target for conversion in found.conversions]
    assert targets == ["as loaded", "0.9999999", "1", "0.5"]
    assert len({conversion.rows for conversion in found.conversions}) == 4


def _check_report(bench, store, lost):
    assert bench("report", "--out", store.root).code == 0
    table = pd.read_csv(store.root / "report" / "deployment.csv")
    loca = table[table["row"].str.startswith("loca")].set_index("target")
    for target, value in lost.items():
        assert loca.loc[target, "lost_mean_of_seeds"] == pytest.approx(value, abs=1e-12)
    assert loca.loc["as loaded", "lost_mean_of_seeds"] == 0
    assert loca.loc["32", "lost_low"] == loca.loc["32", "lost_high"] == 0
    page = (store.root / "report" / "index.html").read_text(encoding="utf-8")
    text = (store.root / "report" / "leaderboard.md").read_text(encoding="utf-8")
    for shown in ("Score lost by conversion to LoRA", "TensorRT-LLM", "What the adapters can be used for"):
        assert shown in page
        assert shown in text
    assert "it loads no DoRA" in text or "merge only" in text


@pytest.mark.slow
def test_a_process_without_parbench_is_tried(bench, adapter, data, run_of, trained_store, monkeypatch):
    """Also of a store that is named from the working folder: that process works in another one."""
    monkeypatch.chdir(trained_store.root.parent)
    where = (*adapter, *data, "--out", trained_store.root.name)
    for method, able in (("lora", True), ("loca", False)):
        assert bench("adapter", "measure", run_of(method), "--sizes", "8", "--again", *where).code == 0
        (found,) = (entry for entry in read_deployments(trained_store) if entry.run_id == run_of(method))
        assert (found.plain_peft == "") is able
    assert found.plain_peft == "it has no LOCA until its module is imported"


def test_measuring_needs_the_data_of_the_run(bench, adapter, run_of, tiny_data, tmp_path):
    other = shutil.copytree(tiny_data, tmp_path / "other")
    write_jsonl(other / "glue-sst2" / "validation.jsonl.gz", sentences(60, seed=9))
    result = bench("adapter", "measure", run_of("lora"), "--again", *adapter, "--data-root", other)
    assert result.code == 2
    assert "the data of glue/sst2 is at revision" in result.err
    assert result.out == ""


def test_a_damaged_measurement_is_named(bench, adapter, run_of, trained_store):
    folder = folder_of(trained_store, run_of("bitfit"))
    folder.mkdir(parents=True)
    (folder / "deployment.json").write_text("{")
    assert bench("report", "--out", trained_store.root).code == 0
    shutil.rmtree(folder)
    text = (trained_store.root / "report" / "leaderboard.md").read_text(encoding="utf-8")
    assert f"deployment/{folder.name}/deployment.json cannot be read" in text


def test_the_licence_of_a_base_model_is_that_of_its_package():
    from parbench.bench.models import MODELS
    from parbench.reports.deployment.card import UNKNOWN, _licence

    found = {name: _licence(MODELS[name].weights) for name in MODELS}
    assert found["bert-tiny"] == found["smollm2-135m"] == "Apache-2.0"
    assert found["vit-s-14"] == "MIT"
    assert found["roberta-base"] == UNKNOWN
