"""AdaLoRA (Zhang et al., 2023)."""
