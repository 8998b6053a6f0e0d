"""Answers to questions, turn by turn: sampled by row, independent of the batch."""

from __future__ import annotations

import numpy as np
import torch

from parbench.tasks.instruct import alpaca_prompt
from parbench.tasks.judge.answering import RowSampling, answer
from parbench.tasks.judge.questions import Question
from parbench.tasks.mt_bench import MT_BENCH_TASK
from tests.support.tiny_llama import byte_tokenizer, predictor_of, tiny_llama


def asked(*categories, turns=2):
    texts = ("What is it?", "And then, if I may ask so much?")
    return [Question(n, category, texts[:turns]) for n, category in enumerate(categories, start=1)]


def answered(predictor, questions, max_new_tokens=12):
    return answer(
        predictor,
        questions,
        lambda turns, answers: MT_BENCH_TASK.conversation(turns, answers, predictor.processor),
        max_new_tokens,
    )


def test_answers_do_not_depend_on_the_batch_or_on_other_random_numbers():
    questions = asked("writing", "math", "stem", "generic", "writing")
    alone, two, all_of_them = (predictor_of(MT_BENCH_TASK, batch_size=size) for size in (1, 2, 5))
    together = answered(all_of_them, questions).texts
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert answered(alone, questions).texts == together
    assert answered(two, questions[3:]).texts == {number: together[number] for number in (4, 5)}
    assert torch.equal(torch.get_rng_state(), before)
    # Questions of one wording and category have luck of their own.
    assert together[1] != together[5]
    assert all(len(turns) == 2 for turns in together.values())


def test_at_temperature_0_an_answer_is_greedy_and_the_second_turn_sees_the_first():
    (question,) = asked("math")
    found = answered(predictor_of(MT_BENCH_TASK), [question]).texts[1]
    model, tokenizer = tiny_llama(), byte_tokenizer()

    def greedy(text):
        ids = tokenizer(text, return_tensors="pt").input_ids
        written = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        return tokenizer.decode(written, skip_special_tokens=True).strip()

    first = greedy(alpaca_prompt(question.turns[0]))
    second = greedy(
        f"{alpaca_prompt(question.turns[0])}{first}</s>### Instruction:\n{question.turns[1]}\n\n### Response:"
    )
    assert found == (first, second)


def test_a_draw_has_the_softmaxs_distribution_over_the_likeliest_tokens():
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0, 1.5], [2.0, 1.0, 0.0, -1.0, 1.5]])
    sampling = RowSampling([0.7, 0.0], [11, 12], top_k=3)
    draws = 4000
    counts = np.zeros(5)
    for _ in range(draws):
        found = sampling(torch.zeros(2, 0), scores)
        assert found[1].equal(scores[1])
        counts[int(found[0].argmax())] += 1
    kept = torch.tensor([2.0, 1.0, 1.5]) / 0.7
    expected = np.zeros(5)
    expected[[0, 1, 4]] = kept.softmax(dim=0).numpy()
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(counts / draws - expected) <= 4 * error).all()


def test_an_answer_takes_the_room_that_is_left():
    predictor = predictor_of(MT_BENCH_TASK)
    questions = asked("math", "coding", turns=1)
    assert answered(predictor, questions, 40).cramped == 0
    whole = answered(predictor, questions, 12).texts
    predictor.processor.model_max_length = len(alpaca_prompt(questions[0].turns[0])) + 12
    short = answered(predictor, questions, 40)
    assert (short.texts, short.cramped) == (whole, 2)
    # Longer than the context: the end of it is what is left.
    predictor.processor.model_max_length = 50
    assert answered(predictor, questions, 40).cramped == 2
