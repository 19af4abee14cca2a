"""Image registries: references, credentials, the answers to challenges, and pulling."""
