"""Equal tuning: the same number of trials for every method."""
