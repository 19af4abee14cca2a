"""Arithmetic: what a model needs, and what a machine offers. Pure functions."""
