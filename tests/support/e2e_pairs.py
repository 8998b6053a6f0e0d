"""Pairs of meanings and texts of E2E NLG, as official files and as rows."""

import pandas as pd

from parbench.tasks.data.folder import FolderSource
from tests.support.tiny_llama import SPECIAL

PAIRS = [
    {"mr": "name[Blue Spice], eatType[pub]", "ref": "Blue Spice is a pub."},
    {"mr": "name[Blue Spice], eatType[pub]", "ref": "A pub: Blue Spice."},
    {"mr": "name[Zizzi], familyFriendly[no]", "ref": "Zizzi is not for families."},
]
# The token that ends a text of the byte tokenizer.
END = SPECIAL.index("</s>")


def written(folder, **files):
    """Write official files as CSV, those not given with good rows."""
    (folder / "e2e-nlg").mkdir()
    for name in ("trainset", "devset", "testset_w_refs"):
        rows = files.get(name, PAIRS)
        (folder / "e2e-nlg" / f"{name}.csv").write_text(pd.DataFrame(rows).to_csv(index=False), encoding="utf-8")
    return FolderSource(folder)


def named(dataset):
    """Return rows as a cut names them."""
    rows = range(len(dataset))
    return dataset.add_column("example", [f"test:{row}" for row in rows]).add_column("subset", [""] * len(dataset))
