"""What methods cost: time, memory, energy and operations, phase by phase, under equal conditions.

How it is measured:

- A *measurement* is one process that handles one candidate (a method, or the frozen floor) at one batch
  size: it loads, trains, evaluates, generates, merges, reports its results, and ends. Measurements run one after the
  other, each in a fresh process. Processes that stay alive between rounds would save loading time, but would hold
  memory on the device whose limit is being measured, and thirty methods on a large model do not fit side by side.
- A *round* is one measurement of every candidate. Rounds alternate between forward and backward order, so that a steady
  drift of the machine affects all candidates equally. A ratio compares two measurements of the same round; its spread
  is over the rounds.
- All candidates get the same batches, which a checksum confirms. A method that reads system prompts gets them in
  addition: one per example in training, and one for all inputs in inference, where reading it is a separate phase.
- The *frozen floor* is the base model's forward pass and the gradient of its inputs: the least cost of any method that
  adapts the first layer.
"""

# The largest batch that is measured or predicted: it is made on the CPU before it is known whether a step on it fits.
MOST_EXAMPLES = 1 << 16
