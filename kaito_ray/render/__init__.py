"""Manifests: equal inputs, equal bytes. Pure functions."""
