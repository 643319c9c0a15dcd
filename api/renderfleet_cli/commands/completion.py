"""`completion`: what makes a shell complete, kubectl included."""

import sys
from pathlib import Path

from renderfleet_cli.errors import Misused

_SHELLS = ("bash", "zsh", "fish", "powershell")
_VARIABLE = "_RENDERFLEET_COMPLETE"
_KUBECTL = """\
#!/bin/sh
# kubectl runs this to complete `kubectl renders …`, with the words so far; the last line tells it to offer no files.
COMP_WORDS="renderfleet $*" COMP_CWORD=$# {variable}=complete_bash {program}
echo :4
"""


def completion(shell: str) -> None:
    """Print the script. Raises Misused for a shell that we know nothing of."""
    if shell == "kubectl":
        print(_KUBECTL.format(variable=_VARIABLE, program=_program()), end="")
        return
    if shell not in _SHELLS:
        raise Misused(f"no completion for {shell!r}", f"one of {', '.join(_SHELLS)}, kubectl")
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="renderfleet", complete_var=_VARIABLE, shell=shell))


def _program() -> str:
    """As the script must call it: by its name when that is on the path, as it is as a rule."""
    called = Path(sys.argv[0]).name
    return called if called in {"renderfleet", "kubectl-renders"} else "renderfleet"
