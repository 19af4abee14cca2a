"""The Ray Train job of one Workspace. Runs inside Ray; knows `kaito_ray.api` and `kaito_ray.errors` only."""
