import csv
import gzip
import io
import json

import pytest
from datasets import Dataset

from parbench.bench.util.errors import UserError
from parbench.tasks.data import e2e
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.source import DataRef

BLUE_SPICE = "name[Blue Spice], eatType[coffee shop], area[city centre]"
OFFICIAL = DataRef("e2e-nlg", train="trainset", selection="devset", reported={"": "testset_w_refs"})
# Rows and meanings of the official release: Novikova et al. (2017), table 1, and the README of its repository.
SIZES = {"trainset": (42061, 4862), "devset": (4672, 547), "testset_w_refs": (4693, 630)}


def rows(*pairs):
    return Dataset.from_list([{"mr": meaning, "ref": text} for meaning, text in pairs])


@pytest.mark.parametrize(
    "meaning",
    [
        BLUE_SPICE,
        "name[The Eagle], priceRange[£20-25], customer rating[5 out of 5], near[Café Brazil]",
        "name[A, B], area[city centre], area[riverside]",
    ],
)
def test_a_meaning_is_read_and_written_again(meaning):
    assert e2e.written(e2e.parsed(meaning)) == meaning


def test_attributes_keep_their_order_and_may_recur():
    assert e2e.parsed("area[riverside], name[A],area[city centre]") == (
        ("area", "riverside"),
        ("name", "A"),
        ("area", "city centre"),
    )


@pytest.mark.parametrize(
    ("meaning", "character"),
    [
        ("", 1),
        ("a coffee shop", 1),
        ("name[A], eatType", 9),
        ("name[A] eatType[pub]", 1),
        ("name[A", 1),
        ("name[A],", 9),
    ],
)
def test_what_is_not_a_meaning_is_a_sentence(meaning, character):
    with pytest.raises(UserError, match=f"cannot be read at character {character};"):
        e2e.parsed(meaning)


def test_linearised_as_for_gpt2():
    assert e2e.linearised(BLUE_SPICE) == "name : Blue Spice | Type : coffee shop | area : city centre"
    everything = (
        "name[The Mill], eatType[restaurant], food[English], priceRange[moderate], customer rating[low], "
        "area[riverside], familyFriendly[yes], near[Raja Indian Cuisine]"
    )
    assert e2e.linearised(everything) == (
        "name : The Mill | Type : restaurant | food : English | price : moderate | customer rating : low | "
        "area : riverside | family friendly : yes | near : Raja Indian Cuisine"
    )


def test_references_are_grouped_where_a_meaning_first_occurs():
    found = e2e.grouped(rows(("name[A]", "x"), ("name[B]", "y"), ("name[A]", "z"), ("name[A]", "x")))
    assert found.to_list() == [
        {"mr": "name[A]", "references": ["x", "z", "x"]},
        {"mr": "name[B]", "references": ["y"]},
    ]


def test_columns_may_have_the_hubs_names():
    on_hub = Dataset.from_list([{"meaning_representation": "name[A]", "human_reference": "x", "other": 1}])
    assert e2e.pairs(on_hub, "the split").to_list() == [{"mr": "name[A]", "ref": "x"}]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (Dataset.from_list([]), "^it is empty"),
        (Dataset.from_list([{"MR": "name[A]"}]), "^it has no column mr, ref: it must have mr and ref, and has MR"),
        (rows(("name[A]", "x"), ("name[B]", " ")), "^it has no text in column ref, row 2"),
        (rows(("name[A]", "x"), (None, "x")), "^it has no text in column mr, row 2"),
        (rows(("name A", "x")), '^in it, the meaning representation "name A" cannot be read'),
    ],
)
def test_what_cannot_be_used_is_a_sentence(data, complaint):
    with pytest.raises(UserError, match=complaint):
        e2e.pairs(data, "it")


def test_the_official_files(real_data):
    source = FolderSource(real_data)
    assert source.missing(OFFICIAL) is None
    loaded = source.load(OFFICIAL)
    for split, (pairs, meanings) in SIZES.items():
        checked = e2e.pairs(loaded[split], split)
        groups = e2e.grouped(checked)
        assert (len(checked), len(groups)) == (pairs, meanings)
        for meaning in groups["mr"][:]:
            assert e2e.written(e2e.parsed(meaning)) == meaning
            assert {name for name, _ in e2e.parsed(meaning)} <= set(e2e.LABELS)
        # The quotes and line breaks of the files, read by another parser.
        with gzip.open(real_data / "e2e-nlg" / f"{split}.csv.gz") as file:
            independent = list(csv.DictReader(io.StringIO(file.read().decode(), newline="")))
        assert checked.to_list() == independent


def test_groups_are_those_that_the_official_scorer_makes(real_data):
    loaded = FolderSource(real_data).load(OFFICIAL)["testset_w_refs"]
    with gzip.open(
        real_data / "e2e-nlg" / "metrics-check" / "test_references.jsonl.gz", "rt", encoding="utf-8"
    ) as file:
        expected = [json.loads(line) for line in file]
    found = e2e.grouped(e2e.pairs(loaded, "it")).to_list()
    assert [(row["mr"], row["references"]) for row in found] == [(row["mr"], row["refs"]) for row in expected]
