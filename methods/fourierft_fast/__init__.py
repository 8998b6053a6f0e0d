"""FourierFT (Gao et al., ICML 2024, arXiv 2405.03003) as peft has it, but computed at a fraction of the cost.

The adapter stays peft's own: configuration, parameters, names and files are those of `peft.FourierFTConfig`, and an
adapter trained here is loaded by peft alone::

    model = get_peft_model(model, FourierFTConfig(n_frequency=1000, target_modules=["query", "value"]))
    compute_fast(model)
"""

from parbench.methods.fourierft_fast.layer import FastFourierFTLinear, FourierUpdate, compute_fast

__all__ = ["FastFourierFTLinear", "FourierUpdate", "compute_fast"]
