"""Kinds of tasks: what tasks of the same shape share."""
