from dataclasses import replace

from parbench.bench.execute.progress import summary
from tests.support.records import RECORD


def test_a_trial_is_summed_up_by_what_it_is_selected_by():
    trial = replace(RECORD, metrics={}, selection_metrics={"accuracy": 0.5, "f1": 0.25})
    assert summary(trial) == "accuracy 50.0 on the selection split"
    assert summary(replace(trial, selection_primary="f1")) == "f1 25.0 on the selection split"
    assert summary(RECORD) == "accuracy 81.2"
