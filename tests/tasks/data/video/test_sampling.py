"""Which frames of a clip are read: by hand, and as the two usual definitions have it."""

import numpy as np
import pytest

from parbench.tasks.data.video.sampling import Sampling


@pytest.mark.parametrize(
    ("frames", "stride", "total", "expected"),
    [
        # 8 frames 4 apart span 29 of 100, which leaves 71: 35 before them.
        (8, 4, 100, (35, 39, 43, 47, 51, 55, 59, 63)),
        (4, 1, 4, (0, 1, 2, 3)),
        (4, 2, 7, (0, 2, 4, 6)),
        # One frame too few: the last stands for what is missing.
        (4, 2, 6, (0, 2, 4, 5)),
        (4, 2, 1, (0, 0, 0, 0)),
        (1, 5, 9, (4,)),
        # Four parts of 2.5 frames, whose middles are 1.25, 3.75, 6.25 and 8.75.
        (4, None, 10, (1, 3, 6, 8)),
        (4, None, 12, (1, 4, 7, 10)),
        (3, None, 3, (0, 1, 2)),
        (4, None, 2, (0, 0, 1, 1)),
        (1, None, 7, (3,)),
    ],
)
def test_the_middle_is_read_in_evaluation(frames, stride, total, expected):
    assert Sampling(frames, stride).numbers(total) == expected


def test_a_training_clip_begins_anywhere_and_keeps_its_stride():
    draw = np.random.default_rng(0)
    seen = [Sampling(3, 2).numbers(9, draw) for _ in range(200)]
    assert {numbers[0] for numbers in seen} == {0, 1, 2, 3, 4}
    assert all(np.diff(numbers).tolist() == [2, 2] for numbers in seen)


def test_a_training_segment_gives_any_of_its_frames():
    draw = np.random.default_rng(0)
    seen = np.array([Sampling(3).numbers(12, draw) for _ in range(300)])
    for part, column in enumerate(seen.T):
        assert set(column) == set(range(4 * part, 4 * part + 4))


@pytest.mark.parametrize(
    ("stride", "total", "starts"),
    [
        # mmaction2's `_get_test_clips`: (100 - 8 * 2 + 1) / 4 = 21.25 apart, the first half of that from the start.
        (2, 100, [10, 31, 53, 74]),
        (2, 16, [0, 0, 0, 0]),
        (2, 17, [0, 0, 1, 1]),
        # Shorter than a view: all begin at the start, and the last frame stands for what is missing.
        (2, 10, [0, 0, 0, 0]),
    ],
)
def test_views_begin_where_video_swin_was_tested(stride, total, starts):
    views = [Sampling(8, stride, view, 4).numbers(total) for view in range(4)]
    assert [numbers[0] for numbers in views] == starts
    assert all(numbers[-1] == min(total - 1, start + 14) for numbers, start in zip(views, starts, strict=True))


def test_views_of_a_whole_clip_take_another_frame_of_every_part():
    # Parts of 6 frames, of which three views take the middle of each third.
    assert [Sampling(2, None, view, 3).numbers(12) for view in range(3)] == [(1, 7), (3, 9), (5, 11)]


@pytest.mark.parametrize("stride", [None, 1, 3])
def test_no_frame_is_beyond_the_end(stride):
    draw = np.random.default_rng(1)
    for total in range(1, 40):
        for drawn in (None, draw):
            numbers = Sampling(7, stride).numbers(total, drawn)
            assert len(numbers) == 7
            assert list(numbers) == sorted(numbers)
            assert numbers[0] >= 0
            assert numbers[-1] < total
