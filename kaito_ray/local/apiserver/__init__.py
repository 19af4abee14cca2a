"""A Kubernetes API server in one process, for one machine: what kubectl, kopf and the official Python client need."""
