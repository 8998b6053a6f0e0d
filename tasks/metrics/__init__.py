"""Metrics by name, from maintained libraries."""
