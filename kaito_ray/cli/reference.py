"""The reference part of docs/cli.md, made from the commands themselves: `python -m kaito_ray.cli.reference`.

A contract test holds the page to it, so an option cannot appear, vanish or change its words unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import typer.main

HEADING: Final = "## Reference"
"""Where the made part of docs/cli.md begins."""

_HIDDEN: Final = ("help", "install_completion", "show_completion")


def reference() -> str:
    """Return every command with its words, arguments and options as Markdown."""
    from kaito_ray.cli.main import app

    sections = (
        section for path, command in _commands(typer.main.get_command(app)) for section in _lines(path, command)
    )
    return "\n".join((HEADING, "", *sections)).rstrip() + "\n"


def _commands(command: Any, path: str = "kaito-ray") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, in the order of the help."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _commands(child, f"{path} {name}")


def _lines(path: str, command: Any) -> Iterator[str]:
    parameters = [p for p in command.params if p.name not in _HIDDEN]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    usage = "".join(f" {p.metavar or p.name.upper()}" if p.required else f" [{p.metavar}]" for p in arguments)
    yield f"### `{path}{usage}`"
    yield ""
    yield re.sub(r"(?<!\n)\n(?!\n)", " ", command.help.strip())
    yield ""
    if parameters:
        yield "| | |"
        yield "|---|---|"
        yield from (f"| {_names(p)} | {_words(p)} |" for p in parameters)
        yield ""


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    takes = f" {parameter.metavar}" if parameter.metavar else ""
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(f"`{name}{takes}`" for name in names)


def _words(parameter: Any) -> str:
    words = str(parameter.help)
    if parameter.envvar:
        words += f" Variable: `{parameter.envvar}`."
    if default := _default(parameter):
        words += f" Default: {default}."
    return words.replace("|", "\\|")


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    default = parameter.default
    if default is None or default is False or default == "":
        return ""
    return f"`{str(default).lower()}`"


if __name__ == "__main__":
    print(reference(), end="")
