"""A Serve application that starts in a second: what the tests of this folder run in place of a model."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

web = FastAPI()


@serve.deployment
@serve.ingress(web)
class Greeter:
    """Answers with what its user_config says."""

    def __init__(self) -> None:
        self.greeting = ""
        print("the greeter is here")

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take a new greeting, in place."""
        self.greeting = user_config["greeting"]

    @web.get("/")
    def greet(self) -> dict[str, Any]:
        """Return the greeting, and which process answers."""
        return {"greeting": self.greeting, "pid": os.getpid()}


def build_app(_: dict[str, str]) -> Application:
    """Return the application."""
    return Greeter.bind()
