"""Lets `python -m bench` stand for the command `bench`."""

from bench.cli import main

main()
