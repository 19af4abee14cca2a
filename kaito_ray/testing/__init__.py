"""Builders and fakes, for our tests and our users'."""
