import re
from functools import partial

import pytest
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM, TrainerControl, TrainerState, TrainingArguments

from parbench.bench.train.movement import FEW_STEPS, Movement, UntrainedError
from parbench.methods import METHODS
from parbench.methods.adalora.schedule import AdaLoraCallback, orthogonality
from parbench.methods.architecture import module_names
from parbench.methods.testing import check_method
from parbench.methods.testing.models import TINY_MODELS, TinyModel, as_batch, loss, outputs
from parbench.methods.testing.subject import Subject

ADALORA = METHODS["adalora"]


def llama(key_value_heads):
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=64,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def adapted(**options):
    base = TINY_MODELS["bert"].build()
    torch.manual_seed(7)
    return ADALORA.adapt(base, module_names(base), ADALORA.setting_type(target_r=2, **options))


def arguments(tmp_path):
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")


def batches(count):
    rows = TINY_MODELS["bert"].rows(4 * count)
    return [as_batch(rows[start : start + 4]) for start in range(0, 4 * count, 4)]


def train(model, steps, begin, before_step, after_step):
    """Train with plain stochastic gradient descent; return the trained values."""
    begin()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step, batch in enumerate(batches(steps)):
        optimiser.zero_grad()
        before_step(batch)
        optimiser.step()
        after_step(step)
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}


def test_the_callback_does_what_peft_does_step_by_step(tmp_path):
    steps, initial, final = 12, 3, 4

    def forward_of_peft(model, batch):
        # With labels the model computes its own loss, to which peft adds the penalty.
        model.base_model.eval()(**batch).loss.backward()

    model = adapted(allocation_steps=2)
    config = model.peft_config["default"]

    def begin():
        config.total_step, config.tinit, config.tfinal = steps, initial, final

    expected = train(
        model,
        steps,
        begin,
        lambda batch: forward_of_peft(model, batch),
        lambda step: model.base_model.update_and_allocate(step + 1),
    )
    ranks_of_peft = config.rank_pattern

    other = adapted(allocation_steps=2)
    callback = AdaLoraCallback(initial / steps, final / steps)
    state, control = TrainerState(max_steps=steps), TrainerControl()
    given = (arguments(tmp_path), state, control)

    def backward(batch):
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        loss(other.eval()(**inputs).logits, batch["labels"]).backward()
        callback.on_pre_optimizer_step(*given, model=other)

    def after(step):
        callback.on_optimizer_step(*given, model=other)
        state.global_step += 1

    found = train(other, steps, lambda: callback.on_train_begin(*given, model=other), backward, after)
    callback.on_train_end(*given, model=other)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name
    assert other.peft_config["default"].rank_pattern == ranks_of_peft


def test_a_trained_adapter_has_the_final_budget_and_can_be_loaded(tmp_path):
    subject = Subject(ADALORA, ADALORA.setting_type(target_r=2), TINY_MODELS["bert"], tmp_path)
    model = subject.trained.model
    ranks = model.peft_config["default"].rank_pattern
    assert sum(sum(kept) for kept in ranks.values()) == 4 * 2
    state = ADALORA.adapter_state(model, subject.trained.names)
    assert sum(tensor.numel() for tensor in state.values()) == 4 * 2 * (64 + 64 + 1)
    assert ADALORA.reported_parameters(model, subject.trained.names) == 4 * 2 * (64 + 64 + 1)
    ADALORA.save(model, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(TINY_MODELS["bert"].build(), str(tmp_path / "adapter"))
    assert torch.allclose(outputs(loaded, subject.rows[:4]), outputs(model, subject.rows[:4]), atol=1e-5)


def test_a_module_that_loses_all_of_its_directions_has_not_failed_to_train(tmp_path):
    subject = Subject(
        ADALORA, ADALORA.setting_type(target_r=1, init_r=4, allocation_steps=1), TINY_MODELS["bert"], tmp_path
    )
    before = Movement(subject.fresh.model, subject.fresh.groups)
    model = subject.trained.model
    ranks = model.peft_config["default"].rank_pattern
    empty = [name for name, kept in ranks.items() if not any(kept)]
    assert empty
    after = dict(model.named_parameters())
    assert not any(parameter.any() for name, parameter in after.items() if any(part in name for part in empty))
    with torch.no_grad():
        for name, parameter in subject.fresh.model.named_parameters():
            parameter.copy_(after[name])
    before.check(FEW_STEPS, ADALORA.may_rest)
    with pytest.raises(UntrainedError, match=re.escape(empty[0])):
        before.check(FEW_STEPS)


def test_the_count_is_that_of_the_directions_left_where_weights_differ_in_shape(tmp_path):
    # Queries have 64 x 64 weights and values 16 x 64: what a direction costs depends on where it is kept.
    one_head = TinyModel("one head", "one key-value head", partial(llama, 1))
    subject = Subject(ADALORA, ADALORA.setting_type(target_r=4, allocation_steps=1), one_head, tmp_path)
    fresh, trained = subject.fresh, subject.trained
    most = ADALORA.reported_parameters(fresh.model, fresh.names)
    assert most == 2 * 6 * (64 + 64 + 1) + 4 * (64 + 16 + 1)  # 16 directions, 6 at most of each weight
    stored = sum(tensor.numel() for tensor in ADALORA.adapter_state(trained.model, trained.names).values())
    assert ADALORA.reported_parameters(trained.model, trained.names) == stored <= most
    assert not check_method(ADALORA, model=one_head).failures


def test_an_epoch_before_the_last_cut_is_not_to_be_chosen():
    setting = ADALORA.setting_type(initial_share=0.1, final_share=0.3)
    assert ADALORA.schedule_share(setting) == pytest.approx(0.7)
    assert METHODS["loca"].schedule_share(METHODS["loca"].setting_type(location_fraction=0.2)) == 0.2
    assert METHODS["lora"].schedule_share(METHODS["lora"].setting_type()) == 0.0


def test_a_start_that_is_given_is_not_changed_with_the_size():
    setting = ADALORA.setting_type(target_r=8, init_r=64, alpha=32.0)
    resized = ADALORA.with_size(setting, 20)
    assert (resized.target_r, resized.init_r, resized.alpha) == (20, 64, 32.0)
    with pytest.raises(ValueError, match="init_r must be greater than target_r"):
        type(setting).model_validate(ADALORA.with_size(setting, 64).model_dump())


def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path):
    setting = ADALORA.setting_type(target_r=2, initial_share=0.2, final_share=0.2, allocation_steps=1)
    subject = Subject(ADALORA, setting, TINY_MODELS["bert"], tmp_path)
    expected, resumed = subject.trained, subject.resume()
    assert all(torch.equal(tensor, resumed.state()[name]) for name, tensor in expected.state().items())
    assert expected.model.peft_config["default"].rank_pattern == resumed.model.peft_config["default"].rank_pattern


def test_a_checkpoint_without_its_allocation_is_refused(tmp_path):
    callback = AdaLoraCallback(0.1, 0.5)
    (tmp_path / "checkpoint-3").mkdir()
    state = TrainerState(max_steps=20, global_step=3)
    with pytest.raises(ValueError, match=r"checkpoint-3 was cut off while being saved; delete it"):
        callback.on_train_begin(arguments(tmp_path), state, TrainerControl(), model=adapted())


def test_a_training_that_is_too_short_is_refused(tmp_path):
    callback = AdaLoraCallback(0.15, 0.5)
    with pytest.raises(ValueError, match="2 steps are too few"):
        callback.on_train_begin(arguments(tmp_path), TrainerState(max_steps=2), TrainerControl(), model=adapted())


def test_the_callback_is_for_adalora_alone(tmp_path):
    base = TINY_MODELS["bert"].build()
    with pytest.raises(ValueError, match="needs a model with an AdaLoRA adapter"):
        AdaLoraCallback(0.1, 0.5).on_train_begin(
            arguments(tmp_path), TrainerState(max_steps=20), TrainerControl(), model=base
        )


def test_orthonormal_rows_have_no_penalty():
    rows = torch.linalg.qr(torch.randn(9, 3, dtype=torch.float64)).Q.T
    assert orthogonality([rows]).item() == pytest.approx(0.0, abs=1e-12)
    assert orthogonality([rows, 2 * rows]).item() == pytest.approx(3 * 3**0.5 / 2)


def test_the_start_is_half_as_large_again():
    assert [ADALORA.setting_type(target_r=r).start_rank for r in (1, 2, 4, 8)] == [2, 3, 6, 12]
    resized = ADALORA.with_size(ADALORA.setting_type(target_r=8, alpha=24.0), 4)
    assert (resized.target_r, resized.start_rank, resized.alpha) == (4, 6, 12.0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"target_r": 8, "init_r": 8}, "nothing to allocate"),
        ({"initial_share": 0.5, "final_share": 0.5}, "leave no steps"),
    ],
)
def test_settings_that_leave_nothing_to_do_are_refused(options, why):
    with pytest.raises(ValueError, match=why):
        ADALORA.setting_type(**options)
