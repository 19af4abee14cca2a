"""The parts of `kubernetes.aio` that we use, and not the rest of the package: 30 MB less for each process.

The package's `__init__` imports its synchronous half, and with it requests, google.auth and 500 modules.
"""

from kaito_ray import lean

with lean.bare("kubernetes", "aio"):
    from kubernetes.aio import config
    from kubernetes.aio.client.api_client import ApiClient
    from kubernetes.aio.client.configuration import Configuration

__all__ = ["ApiClient", "Configuration", "config"]
