"""On-policy distillation of language models with Early Stopping Rollout (ESR, arXiv:2605.27028)."""

__version__ = "0.1.0"
