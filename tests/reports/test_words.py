"""Lists in words."""

import pytest

from parbench.reports.words import listed


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcdefg"), "a, b, c and 4 more"),
    ],
)
def test_names_as_a_list_in_words(names, text):
    assert listed(names) == text
