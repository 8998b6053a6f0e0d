"""What a made-up calibration has found."""

from parbench.bench.forecast.calibration import Calibration

COST = Calibration(
    step_seconds=0.5,
    row_seconds=0.25,
    fixed_seconds=10.0,
    selection_rows=16,
    process_bytes=1 << 30,
    device_bytes=None,
    disk_bytes=1000,
    row_bytes=10.0,
    checkpoint_bytes=5000,
    made="2026-01-01T00:00:00+00:00",
)
