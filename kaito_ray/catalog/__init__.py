"""Facts: models, GPUs and instance types, each with its source."""
