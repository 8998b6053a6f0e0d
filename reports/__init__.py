"""From the store of records to tables and figures; reads the store only, and runs nothing."""

if not __name__.startswith("parbench."):
    raise ImportError('this folder is imported as "parbench.reports", not as "reports"')
