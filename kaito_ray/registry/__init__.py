"""What pulling and pushing share: image references, credentials, and the answers to a registry's challenges."""
