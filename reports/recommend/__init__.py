"""Which method for a base model and a task: a short list from records, profiles and predictions, with its evidence."""
