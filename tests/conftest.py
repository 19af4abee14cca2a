"""Property tests try the same examples each time; `HYPOTHESIS_PROFILE=explore` looks for new ones, and more of them."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("steady", max_examples=50, derandomize=True, deadline=None, database=None)
settings.register_profile("explore", max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
