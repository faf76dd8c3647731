"""Local language models, run with transformers."""
