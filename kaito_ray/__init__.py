"""kaito-ray: serve and tune language models on Kubernetes with Ray."""

__version__ = "0.1.0"
