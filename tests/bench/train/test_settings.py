"""Which settings of a training make a run."""

from parbench.bench.train.settings import TrainingSettings


def test_a_share_of_warm_up_beside_a_number_of_steps_makes_no_other_run():
    plain = TrainingSettings(max_steps=10, warmup_steps=3)
    both = TrainingSettings(max_steps=10, warmup_steps=3, warmup_ratio=0.5)
    assert both.deciding() == plain.deciding()
    assert (both.deciding()["warmup_ratio"], both.deciding()["warmup_steps"]) == (0.06, 3)
    assert TrainingSettings(max_steps=10, warmup_ratio=0.5).deciding()["warmup_ratio"] == 0.5


def test_checkpoints_make_no_other_run():
    settings = TrainingSettings(max_steps=10, checkpoint_steps=3)
    assert settings.deciding() == TrainingSettings(max_steps=10).deciding()
    assert settings.not_deciding() == {"checkpoint_steps": 3}
