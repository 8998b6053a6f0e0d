"""Methods keep the contract on models of clips as well, Video Swin included."""

import pytest

from parbench.methods import find_method
from parbench.methods.testing import TinyModel, check_method
from tests.support.video_models import MODELS, video_swin, videomae

METHODS = ("lora", "loca", "dora", "vera", "fourierft", "replora")
CASES = [
    pytest.param(method, make, id=f"{method}-{make.__name__}", marks=() if quick else pytest.mark.slow)
    for make in MODELS.values()
    for method in METHODS
    for quick in [(method, make) in (("loca", video_swin), ("replora", videomae))]
]


@pytest.mark.parametrize(("method", "make"), CASES)
def test_a_method_keeps_the_contract_on_a_model_of_clips(method, make):
    tiny = TinyModel(make.__name__, "a model of clips", make)
    check_method(find_method(method).method, model=tiny).raise_for_failures()
