"""Models that arrive in other formats, turned into transformers' own."""
