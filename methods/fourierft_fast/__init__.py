"""FourierFT (Gao et al., ICML 2024, arXiv 2405.03003) with peft's results at a fraction of the cost.

The adapter is peft's own: configuration, parameters, names and files are those of `peft.FourierFTConfig`, and peft
loads an adapter that was trained here::

    model = get_peft_model(model, FourierFTConfig(n_frequency=1000, target_modules=["query", "value"]))
    compute_fast(model)
"""

from parbench.methods.fourierft_fast.layer import FastFourierFTLinear, FourierUpdate, compute_fast

__all__ = ["FastFourierFTLinear", "FourierUpdate", "compute_fast"]
