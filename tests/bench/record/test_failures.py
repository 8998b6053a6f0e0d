import httpx2
import pytest
import requests

from parbench.bench.record.failures import is_transient


@pytest.mark.parametrize(
    "error",
    [httpx2.ConnectError("no route"), httpx2.ReadTimeout("slow"), requests.Timeout("slow"), ConnectionResetError()],
)
def test_a_lost_connection_is_temporary_also_as_the_cause_of_another_error(error):
    assert is_transient(error)
    outer = RuntimeError("cannot load")
    outer.__cause__ = error
    assert is_transient(outer)


def test_other_errors_do_not_pass():
    assert not is_transient(ValueError("no such option"))
    assert not is_transient(httpx2.InvalidURL("no address"))
