"""The operator: observe, plan, render, apply, status."""
