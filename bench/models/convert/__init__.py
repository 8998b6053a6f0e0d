"""Converts models that Python packages ship in other formats to the transformers format."""
