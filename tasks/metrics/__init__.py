"""Metrics by name, from kept libraries."""
