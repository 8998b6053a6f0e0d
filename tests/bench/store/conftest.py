"""Two stores, between which runs are carried."""

import pytest

from tests.support.stores import make_store


@pytest.fixture
def ours(tmp_path):
    return make_store(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path):
    return make_store(tmp_path / "theirs")
