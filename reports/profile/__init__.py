"""Tables and figures of measured cost."""
