"""Where the paths of the pod are, in a container and on a laptop."""

from __future__ import annotations

import os
from pathlib import Path

from kaito_ray.api.app_args import MOUNT_ROOT


def mounted(path: str) -> Path:
    """Return where the container path `path` is: below the pod's directory where there is no container."""
    return Path(os.environ.get(MOUNT_ROOT) or "/") / path.lstrip("/")
