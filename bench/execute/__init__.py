"""Ways to execute runs: in this process, in worker processes, on Ray or Slurm."""
