"""Training and evaluation: everything here decides results and is part of a run's identity."""
