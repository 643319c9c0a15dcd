"""Options that every command takes, said once: which fleet. They may stand before the command or behind it."""

import inspect
import signal
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .door import Target, Via

PANEL = "Which fleet"
_INTERRUPTED = 128 + signal.SIGINT

_TARGET: tuple[tuple[str, Any], ...] = (
    (
        "via",
        Annotated[
            Via | None,
            typer.Option("--via", help="Way to the fleet; by default what is configured.", rich_help_panel=PANEL),
        ],
    ),
    (
        "profile",
        Annotated[
            str | None,
            typer.Option("--profile", help="A REST API saved by `login`.", metavar="NAME", rich_help_panel=PANEL),
        ],
    ),
    (
        "namespace",
        Annotated[
            str | None,
            typer.Option(
                "--namespace",
                "-n",
                metavar="NAME",
                help="Namespace in the cluster; a tenant's is rf-TENANT.",
                rich_help_panel=PANEL,
            ),
        ],
    ),
    (
        "context",
        Annotated[
            str | None,
            typer.Option("--context", metavar="NAME", help="Context of the kubeconfig.", rich_help_panel=PANEL),
        ],
    ),
    (
        "kubeconfig",
        Annotated[
            str | None,
            typer.Option(
                "--kubeconfig", help="Its file; by default $KUBECONFIG.", metavar="FILE", rich_help_panel=PANEL
            ),
        ],
    ),
)
_PARAMETERS = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in _TARGET
]


def with_target(run: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter `target` is made from the shared options; typer sees these instead of it."""
    own = [one for one in inspect.signature(run, eval_str=True).parameters.values() if one.name != "target"]
    wants_context = any(one.name == "ctx" for one in own)
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    def command(ctx: typer.Context, **given: Any) -> None:
        here = {name: given.pop(name) for name, _ in _TARGET}
        target = target_of(ctx, here)
        # A group's options hold for the commands within it.
        ctx.find_root().obj = target
        try:
            run(target, **given, **({"ctx": ctx} if wants_context else {}))
        except KeyboardInterrupt:
            # As shells count it, and without a word: whoever presses Ctrl-C knows.
            raise typer.Exit(_INTERRUPTED) from None

    parameters = [
        *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own if one.name != "ctx"),
        *_PARAMETERS,
        context,
    ]
    command.__name__ = run.__name__
    command.__doc__ = run.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def target_of(ctx: typer.Context, here: dict[str, Any]) -> Target:
    """What stands behind the command wins over what stands before it."""
    before: Target = ctx.find_root().obj or Target()
    values = {name: here.get(name) or getattr(before, name) for name, _ in _TARGET}
    return Target(**values, program=before.program)
