"""The harness: plans, runs, records, budgets, profiles and the command line."""

if not __name__.startswith("parbench."):
    raise ImportError('this folder is imported as "parbench.bench", not as "bench"')
