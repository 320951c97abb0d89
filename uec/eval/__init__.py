"""Evaluation on held-out prompts: pass@k, majority@k, entropy, with confidence intervals and paired differences."""
