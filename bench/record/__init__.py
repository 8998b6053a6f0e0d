"""What a run leaves: its spec, its record, and what identifies them."""
