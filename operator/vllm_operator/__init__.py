"""A Kubernetes operator that runs vLLM model servers and keeps them well tuned."""

__version__ = "0.1.0"
