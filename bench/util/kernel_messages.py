"""Leaves out a message of bitsandbytes about kernels that are not used here.

On a processor that multiplies bfloat16, bitsandbytes warns as it is imported, which peft does, that it has no faster
kernel for weights in 4 bits. Quantised layers here compute without it, as on every other processor. Importing
`parbench` installs the filter.
"""

from __future__ import annotations

import logging

_LOGGER = "bitsandbytes.backends.cpu.ops"
_KERNEL = "gemm_4bit_forward"


def install() -> None:
    """Add the filter; a logger takes it once."""
    logging.getLogger(_LOGGER).addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    """Return whether a message is shown."""
    return _KERNEL not in str(record.msg)
