"""`python -m kaito_ray.controller`."""

from kaito_ray.controller.main import main

main()
