"""The tuners of peft: paper, size knob, defaults, and why some cannot be compared."""

from __future__ import annotations

from parbench.bench.util.reference import Reference
from parbench.methods.base import SizeKnob
from parbench.methods.from_peft.known import KnownTuner


def _paper(title: str, year: int, arxiv: str) -> Reference:
    return Reference(title, year, "arXiv", arxiv)


# Block sizes must divide the sides of the weights, which have few prime factors in transformers.
_BLOCKS = tuple(sorted(2**a * 3**b for a in range(1, 13) for b in range(3) if 2**a * 3**b <= 4096))
_RANK = SizeKnob("r", rank=True)
# Has the name of a rank, but is not the rank of the update.
_SIZE = SizeKnob("r")
# HRA starts as the identity, and GraLoRA splits the rank over two blocks, at even ranks only.
_EVEN_RANK = SizeKnob("r", choices=tuple(range(2, 1025, 2)))
_PROMPT = SizeKnob("num_virtual_tokens")
# peft has no default; 20 is the number of its own examples.
_TWENTY_TOKENS = {"num_virtual_tokens": 20}
# Random matrices are not saved, as for VeRA: they are drawn from their seed again.
_DRAWN_AGAIN = {"save_projection": False}

# In alphabetical order. A tuner that is missing here is listed with the defaults of `KnownTuner`.
KNOWN: dict[str, KnownTuner] = {
    "adamss": KnownTuner(
        Reference(
            "AdaMSS: Adaptive Multi-Subspace Approach for Parameter-Efficient Fine-Tuning",
            2025,
            "OpenReview 8ZdWmpYxT0",
        ),
        SizeKnob("subspace_rank"),
    ),
    "adaption_prompt": KnownTuner(
        _paper("LLaMA-Adapter: Efficient Fine-tuning of Language Models with Zero-init Attention", 2023, "2303.16199"),
        SizeKnob("adapter_len"),
        targets="none",
        mergeable=False,
        # The length is the paper's; all layers, where the paper takes the topmost 30 of 32.
        defaults={"adapter_len": 10, "adapter_layers": None},
    ),
    "beft": KnownTuner(
        _paper("BEFT: Bias-Efficient Fine-Tuning of Language Models in Low-Data Regimes", 2025, "2509.15974"),
        targets="value",
    ),
    "boft": KnownTuner(
        _paper("Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization", 2023, "2311.06243"),
        SizeKnob("boft_block_size", choices=_BLOCKS),
    ),
    "c3a": KnownTuner(
        _paper("Parameter-Efficient Fine-Tuning via Circular Convolution", 2024, "2407.19342"),
        # A larger block has fewer parameters.
        SizeKnob("block_size", choices=_BLOCKS[::-1]),
        starts_at_base=False,
        learning_rate=1e-1,
    ),
    "cartridge": KnownTuner(
        _paper(
            "Cartridges: Lightweight and general-purpose long context representations via self-study",
            2025,
            "2506.06266",
        ),
        refused="it is made from the cache of one long text and trained by self-study on that text, which no task has",
    ),
    "cpt": KnownTuner(
        _paper(
            "Context-aware Prompt Tuning: Advancing In-Context Learning with Adversarial Methods", 2024, "2410.17222"
        ),
        refused="it refines a context of labelled examples with a loss of its own; prompt_tuning needs neither",
    ),
    "deft": KnownTuner(
        Reference("DEFT: Decompositional Efficient Fine-Tuning for Text-to-Image Models", 2025, "NeurIPS"), _RANK
    ),
    "delora": KnownTuner(_paper("Decoupling Angles and Strength in Low-rank Adaptation", 2025, "2503.18225"), _RANK),
    "frod": KnownTuner(
        _paper("FRoD: Full-Rank Efficient Fine-Tuning with Rotational Degrees", 2025, "2512.23485"),
        # Its size is set by a share, sparse_rate, and not by an integer.
        defaults={"progressbar": False},
    ),
    "glora": KnownTuner(
        _paper("One-for-All: Generalized LoRA for Parameter-Efficient Fine-tuning", 2023, "2306.07967"), _RANK
    ),
    "gralora": KnownTuner(
        _paper("GraLoRA: Granular Low-Rank Adaptation for Parameter-Efficient Fine-Tuning", 2025, "2505.20355"),
        _EVEN_RANK,
    ),
    "hira": KnownTuner(
        Reference("HiRA: Parameter-Efficient Hadamard High-Rank Adaptation for Large Language Models", 2025, "ICLR"),
        _RANK,
    ),
    "hra": KnownTuner(
        _paper(
            "Bridging The Gap between Low-rank and Orthogonal Adaptation via Householder Reflection Adaptation",
            2024,
            "2405.17484",
        ),
        _EVEN_RANK,
    ),
    "ia3": KnownTuner(
        _paper(
            "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
            2022,
            "2205.05638",
        ),
        targets="of_peft",
    ),
    "lily": KnownTuner(
        _paper("Low-Rank Interconnected Adaptation across Layers", 2024, "2407.09946"), _RANK, mergeable=False
    ),
    "ln_tuning": KnownTuner(
        _paper("Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning", 2023, "2312.11420"),
        targets="of_peft",
    ),
    "loha": KnownTuner(
        _paper("FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning", 2021, "2108.06098"),
        _SIZE,
    ),
    "lokr": KnownTuner(
        _paper(
            "Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation", 2023, "2309.14859"
        ),
        _SIZE,
    ),
    "miss": KnownTuner(
        _paper("MiSS: Revisiting the Trade-off in LoRA with an Efficient Shard-Sharing Structure", 2024, "2409.15371"),
        _RANK,
    ),
    "multitask_prompt_tuning": KnownTuner(
        _paper("Multitask prompt tuning enables parameter-efficient transfer learning", 2023, "2303.02861"),
        refused="it learns one prompt from several tasks at once, while a run here has one task; use prompt_tuning",
    ),
    "oft": KnownTuner(
        _paper("Controlling Text-to-Image Diffusion by Orthogonal Finetuning", 2023, "2306.07280"),
        SizeKnob("oft_block_size", choices=_BLOCKS),
    ),
    "osf": KnownTuner(
        _paper("Sculpting Subspaces: Constrained Full Fine-Tuning in LLMs for Continual Learning", 2025, "2504.07097"),
        # Its size is what effective_rank leaves of each weight's own rank, so a larger value is a smaller adapter.
        # peft can merge it, but not unmerge it.
        mergeable=False,
    ),
    "p_tuning": KnownTuner(
        _paper("GPT Understands, Too", 2021, "2103.10385"),
        SizeKnob("encoder_hidden_size"),
        targets="none",
        starts_at_base=False,
        mergeable=False,
        defaults={**_TWENTY_TOKENS, "encoder_hidden_size": 128},
    ),
    "peanut": KnownTuner(
        _paper("PEANuT: Parameter-Efficient Adaptation with Weight-aware Neural Tweakers", 2024, "2410.01870"), _SIZE
    ),
    "poly": KnownTuner(
        _paper("Combining Modular Skills in Multitask Learning", 2022, "2202.13914"),
        refused="it learns to route between several tasks, while a run here has one",
    ),
    "prefix_tuning": KnownTuner(
        _paper("Prefix-Tuning: Optimizing Continuous Prompts for Generation", 2021, "2101.00190"),
        _PROMPT,
        targets="none",
        starts_at_base=False,
        mergeable=False,
        # The prefix is passed as a cache, which transformers drops when it recomputes activations.
        checkpointing=False,
        defaults=_TWENTY_TOKENS,
    ),
    "prompt_tuning": KnownTuner(
        _paper("The Power of Scale for Parameter-Efficient Prompt Tuning", 2021, "2104.08691"),
        _PROMPT,
        targets="none",
        starts_at_base=False,
        mergeable=False,
        defaults=_TWENTY_TOKENS,
    ),
    "psoft": KnownTuner(
        _paper("Efficient Orthogonal Fine-Tuning with Principal Subspace Adaptation", 2025, "2505.11235"), _SIZE
    ),
    "pvera": KnownTuner(
        _paper("PVeRA: Probabilistic Vector-Based Random Matrix Adaptation", 2025, "2512.07703"),
        _SIZE,
        defaults=_DRAWN_AGAIN,
    ),
    "randlora": KnownTuner(
        _paper("RandLoRA: Full rank parameter-efficient fine-tuning of large models", 2025, "2502.00987"),
        # A larger rank means fewer bases and fewer trained scales; only halving the rank always adds some.
        SizeKnob("r", choices=tuple(2**a for a in range(10, -1, -1))),
        defaults=_DRAWN_AGAIN,
    ),
    "road": KnownTuner(
        _paper(
            "3-in-1: 2D Rotary Adaptation for Efficient Finetuning, Efficient Batching and Composability",
            2024,
            "2409.00119",
        )
    ),
    "shadow": KnownTuner(
        refused="peft adds its second loss to the loss that the model computes, which the trainer here does not use"
    ),
    "shira": KnownTuner(_paper("Sparse High Rank Adapters", 2024, "2406.13175"), _SIZE),
    "supertuning": KnownTuner(
        # Its size is set by a share, sparsity, and not by an integer.
        _paper("Super-Tuning: From Activation-Aware Pruning to Sparse Fine-Tuning", 2026, "2607.09287")
    ),
    "tinylora": KnownTuner(
        _paper("Learning to Reason in 13 Parameters", 2026, "2602.04118"), SizeKnob("u"), defaults=_DRAWN_AGAIN
    ),
    "trainable_tokens": KnownTuner(
        refused="it retrains the embeddings of chosen tokens, new words mostly, and the tasks here have none to choose"
    ),
    "unilora": KnownTuner(
        _paper("Uni-LoRA: One Vector Is All You Need", 2025, "2506.00799"),
        SizeKnob("theta_d_length"),
        starts_at_base=False,
    ),
    "vblora": KnownTuner(
        _paper("VB-LoRA: Extreme Parameter Efficient Fine-Tuning with Vector Banks", 2024, "2405.15179"),
        SizeKnob("num_vectors"),
        starts_at_base=False,
    ),
    "waveft": KnownTuner(
        _paper("Exploring Sparsity for Parameter Efficient Fine Tuning Using Wavelets", 2025, "2505.12532"),
        SizeKnob("n_frequency"),
    ),
    "xlora": KnownTuner(
        _paper(
            "X-LoRA: Mixture of low-rank adapter experts, a flexible framework for large language models with "
            "applications in protein mechanics and molecular design",
            2024,
            "2402.07148",
        ),
        refused="it mixes LoRA adapters that were trained before; train those as lora",
    ),
}
