"""The command line: one file for each command, every decision in the layers below.

Exit status: 0 done, 1 failed, 2 the person must change something (a manifest, an option), 130 interrupted.
Modules of commands import nothing heavy at their top, so that `--help` and completion answer at once.
"""

from __future__ import annotations

from typing import Any

import typer
import typer.core

from kaito_ray.cli import (
    chat,
    dashboard,
    doctor,
    down,
    endpoint,
    logs,
    migrate,
    plan,
    presets,
    quickstart,
    render,
    status,
    tune,
    up,
    upgrade,
    version,
)
from kaito_ray.errors import KaitoRayError, UserError

FAILED, USER_MUST_ACT = 1, 2


class Commands(typer.core.TyperGroup):
    """The commands, with our errors told in one line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of ours becomes one red line and an exit status."""
        try:
            return super().invoke(ctx)
        except KaitoRayError as error:
            tell(error)
            raise typer.Exit(USER_MUST_ACT if isinstance(error, UserError) else FAILED) from error


def tell(error: KaitoRayError) -> None:
    """Write the error to standard error as one line: what is wrong, and what to do."""
    from rich.markup import escape

    from kaito_ray.cli.console import one_line, say

    say(f"[bold red]error:[/] [red]{escape(one_line(str(error)))}[/]")


app = typer.Typer(
    cls=Commands,
    name="kaito-ray",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve and tune language models on Kubernetes with Ray: one short manifest, a Workspace.",
)

MACHINE, MODELS, MANIFESTS, HELP = "This machine", "Models that run", "Before anything runs", "Help"

app.command(rich_help_panel=MACHINE)(quickstart.quickstart)
app.command(rich_help_panel=MACHINE)(up.up)
app.command(rich_help_panel=MACHINE)(down.down)
app.command(rich_help_panel=MODELS)(status.status)
app.command(rich_help_panel=MODELS)(chat.chat)
app.command(rich_help_panel=MODELS)(endpoint.endpoint)
app.command(rich_help_panel=MODELS)(dashboard.dashboard)
app.command(rich_help_panel=MODELS)(logs.logs)
app.command(rich_help_panel=MODELS)(upgrade.upgrade)
app.command(rich_help_panel=MODELS)(migrate.migrate)
app.add_typer(tune.app, name="tune", rich_help_panel=MODELS)
app.add_typer(presets.app, name="presets", rich_help_panel=MANIFESTS)
app.command(rich_help_panel=MANIFESTS)(plan.plan)
app.command(rich_help_panel=MANIFESTS)(render.render)
app.command(rich_help_panel=HELP)(doctor.doctor)
app.command(rich_help_panel=HELP)(version.version)


def main() -> None:
    """Run the command line; the entry point of the package."""
    app()


if __name__ == "__main__":
    main()
