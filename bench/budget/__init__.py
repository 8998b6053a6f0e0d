"""Parameter budgets: counting, and finding the size of a method that meets one."""

from typing import Literal

# How a budget is filled: with one size for all layers, or with fewer or unevenly sized layers.
BudgetMode = Literal["uniform", "pattern"]
# What else than parameters a budget can limit; it is measured.
MeasuredLimit = Literal["memory", "step-time"]
# A method further below its budget misses it, and a note states by how much.
TOLERANCE = 0.05
