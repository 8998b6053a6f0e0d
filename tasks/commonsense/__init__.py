"""The eight commonsense sets of LLM-Adapters: trained on as one mixture, scored by lm-eval or by what is generated."""
