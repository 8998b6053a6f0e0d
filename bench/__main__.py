"""Lets `python -m parbench.bench` stand for the command `bench`."""

from parbench.bench.cli import main

main()
