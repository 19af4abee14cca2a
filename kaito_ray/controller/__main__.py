"""`python -m kaito_ray.controller`."""

from kaito_ray import lean

# kopf would import it whole, only to recognise its models, which we never hand over: 30 MB.
with lean.absent("kubernetes"):
    import kopf  # noqa: F401 - loaded here, used in the modules below

from kaito_ray.controller.main import main

main()
