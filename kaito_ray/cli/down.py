"""`kaito-ray down`: end the control plane of this machine, and every model with it."""

from __future__ import annotations

from kaito_ray.cli.options import HomeOption


def down(home: HomeOption = None) -> None:
    """Stop the control plane of this machine, and every model that runs on it.

    Workspaces are kept: `kaito-ray up` serves them again.
    """
    from kaito_ray.cli.console import console, say
    from kaito_ray.local.home import default_home
    from kaito_ray.local.up import down as stop

    where = home or default_home()
    with console(stderr=True).status("Stopping the control plane, and the models it runs"):
        stop(where)
    say(f"Nothing of {where} runs any more. `kaito-ray up --detach` starts it again.")
