"""One interface, three renderers: `rich` for a person at a terminal, plain lines for a log, JSON lines for a program."""

from __future__ import annotations

from typing import Any, Protocol

from overproof.cli.output import Output
from overproof.cli.views import RunView


class Renderer(Protocol):
    """Shows a run while it goes on. Used as a context manager around the watch."""

    def __enter__(self) -> Renderer: ...

    def __exit__(self, *exc: object) -> None: ...

    def show(self, run: RunView, now: float) -> None:
        """The run as it is now."""
        ...

    def event(self, event: dict[str, Any]) -> None:
        """Something happened in it: `level`, `type`, `message`."""
        ...

    def unreachable(self, reason: str) -> None:
        """The gateway does not answer; called on every try until it does."""
        ...


def renderer_for(output: Output) -> Renderer:
    """`--json` → JSON lines; a terminal → rich; anything else → plain lines."""
    if output.as_json:
        from overproof.cli.render.json import JsonRenderer

        return JsonRenderer(output)
    if output.tty:
        from overproof.cli.render.rich import RichRenderer  # rich is loaded only where it shows

        return RichRenderer(output)
    from overproof.cli.render.plain import PlainRenderer

    return PlainRenderer(output)
