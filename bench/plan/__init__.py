"""From a suite and the command line to the runs to do."""
