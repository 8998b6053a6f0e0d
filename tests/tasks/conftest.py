"""Fixtures that several of the tasks' tests share."""

import pytest

from parbench.tasks.metrics import java


@pytest.fixture
def no_java(monkeypatch):
    """A machine without Java, on which nothing takes seconds to start either."""
    monkeypatch.setattr(java, "_programs", lambda: "there is no java on the PATH; install a Java runtime")
