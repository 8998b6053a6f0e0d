"""Base models: where their weights come from, how they are loaded, counted and converted."""
