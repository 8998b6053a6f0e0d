"""What trained adapters can be used for: merging, loading, conversion to LoRA, serving engines, model cards."""
