"""What the tables of deployment say of rows that did not learn, and of weights in fewer bits."""

from dataclasses import replace

from parbench.bench.record.deployment import Deployment, Merge
from parbench.reports.deployment.losses import DeployedRow, Loss
from parbench.reports.deployment.tables import deployed

FOUND = Deployment(
    run_id="a",
    kind="LOCA",
    rank=None,
    variant="",
    targets=("q_proj",),
    whole_modules=(),
    adapter_bytes=7,
    merges=(Merge("float32", 1e-6, 3.0),),
    plain_peft="",
    switched="",
    mixed="",
    unmerged_seconds=0.01,
    merged_seconds=None,
    conversions=(),
    made="2026-01-02T00:00:00+00:00",
)
ROW = DeployedRow(
    "loca", "glue/sst2", "accuracy", "glue/sst2", {1: FOUND}, (Loss("1", 0.0, ranks=(1, 1)), Loss("0.9999999", 0.0))
)


def tables(row):
    uses, conversions, engines = deployed([row], ()).tables
    return [dict(zip(table.head, table.rows[0], strict=True)) for table in (uses, conversions, engines)]


def test_what_runs_that_did_not_learn_lose_is_no_recommendation():
    _, conversions, engines = tables(ROW)
    assert conversions["rank 1"] == conversions["energy 0.9999999"] == "+0.0"
    assert engines["vLLM"] == "serve as converted LoRA of rank 1 (loses +0.0)"
    _, conversions, engines = tables(replace(ROW, learnt=False))
    assert conversions["rank 1"] == "+0.0, did not learn"
    assert engines["vLLM"] == "serve as converted LoRA of rank 1 (the runs did not learn)"


def test_plain_peft_names_the_weights_that_it_was_tried_on():
    assert tables(ROW)[0]["plain peft"] == "yes"
    assert tables(replace(ROW, precision="nf4"))[0]["plain peft"] == "yes, on nf4 weights given back in float32"
    refused = replace(ROW, precision="nf4", found={1: replace(FOUND, plain_peft="it has no LOCA")})
    assert tables(refused)[0]["plain peft"] == "no: it has no LOCA"


def test_whether_a_variant_is_served_is_not_known_where_no_source_shows_it():
    row = replace(ROW, found={1: replace(FOUND, kind="LORA", rank=8, variant="rslora")}, losses=())
    engines = tables(row)[1] if len(deployed([row], ()).tables) == 2 else tables(row)[2]
    assert engines["LoRAX"] == "serve as is"
    assert engines["llama.cpp"] == "merge only: it loads no rank-stabilised scales"
    assert engines["vLLM"] == "merge only: whether it loads rank-stabilised scales is not known"
