"""Fetch weights before they are needed, with progress; prints their directory on the last line."""

from __future__ import annotations

import argparse
import sys

from kaito_ray.api.app_args import ModelSource
from kaito_ray.errors import KaitoRayError
from kaito_ray.weights import local_directory


def main() -> int:
    """Return 0 and print the directory, or 1 and print why not."""
    parser = argparse.ArgumentParser(prog="python -m kaito_ray.weights", description=__doc__)
    for name, field in ModelSource.model_fields.items():
        parser.add_argument("--" + name.replace("_", "-"), help=field.description)
    source = ModelSource(**vars(parser.parse_args()))
    try:
        print(local_directory(source))
    except KaitoRayError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
