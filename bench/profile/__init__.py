"""What methods cost: time, memory, energy and operations, phase by phase, under equal conditions.

How it is measured, and why so:

- A *visit* is one process that does one subject (a method, or the frozen floor) at one batch size: it loads, trains,
  evaluates, generates, merges, says what it found, and ends. Visits follow one another; nothing is ever kept beside
  them. Processes kept alive between rounds would cost less loading, but would hold memory on the very device whose
  limit is asked for, and thirty methods on a large model do not fit beside each other at all. Loading is measured anew
  in every round instead.
- A *round* is one visit of every subject. Rounds go through the subjects forwards and backwards in turn, so that a
  steady drift of the machine hits all alike; a ratio is of two visits of the same round, and its spread is that over
  the rounds.
- All subjects get the same batches, and say by a checksum that they did. A method that reads a system prompt gets one
  besides: of its own with each example in training, and in use one for all, whose reading is a phase of its own.
- The *frozen floor* is the base model's forward pass and the gradient of its inputs: what no method that adapts the
  first layer can avoid.
"""
