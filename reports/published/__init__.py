"""Numbers printed in papers, with their source, compared with measured ones."""

from parbench.reports.published.ledger import Reproduced, not_joined, reproduction, reproduction_table
from parbench.reports.published.sources import PublishedNumber, PublishedTable, published

__all__ = [
    "PublishedNumber",
    "PublishedTable",
    "Reproduced",
    "not_joined",
    "published",
    "reproduction",
    "reproduction_table",
]
