"""How fast this machine multiplies in 16 bits, found by trying: its instructions do not say.

A processor without instructions for bfloat16 emulates them; one that has them is not always faster with them (an Intel
Xeon with AVX-512 BF16 and without AMX takes twice float32's time, see bench/train/PERFORMANCE.md).
"""

from __future__ import annotations

import time

_TOKENS, _WIDTH, _ROUNDS = 256, 768, 5


def bfloat16_slowdown() -> float:
    """Return the time of a product in bfloat16 on the CPU, in float32's: above 1 it is slower.

    The least of a few interleaved rounds of a linear layer's size; takes some hundredths of a second.
    """
    import torch

    ways = [
        (torch.ones(_TOKENS, _WIDTH, dtype=dtype), torch.ones(_WIDTH, _WIDTH, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    times: tuple[list[float], list[float]] = ([], [])
    # The first round warms up.
    for number in range(_ROUNDS + 1):
        for taken, (x, weight) in zip(times, ways, strict=True):
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            if number:
                taken.append(time.perf_counter() - start)
    return min(times[1]) / min(times[0])
