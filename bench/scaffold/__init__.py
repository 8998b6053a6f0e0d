"""Packages of a new method or task, written to be edited."""
