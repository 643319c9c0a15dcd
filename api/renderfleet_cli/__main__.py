"""Where the program starts, as `renderfleet` or as kubectl's plugin, and the one place that turns errors into exit codes."""

import os
import sys
from pathlib import Path

from .door import Target
from .errors import CliError, Unreachable


def main() -> None:
    """Run one command and exit: 0 done, 1 failed, 2 wrong usage, 3 nobody answers."""
    from .app import app

    plugin = Path(sys.argv[0]).name.startswith("kubectl-")
    program = "kubectl renders" if plugin else "renderfleet"
    target = Target(program=program, via="cluster" if plugin else None)
    if any(name.endswith("_COMPLETE") and name.startswith("_") for name in os.environ):
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    try:
        app(prog_name=program, obj=target, complete_var="_RENDERFLEET_COMPLETE")
    except CliError as trouble:
        print(f"error: {trouble.what}", file=sys.stderr)
        if trouble.cure:
            # To be copied, so by the name that this program was called.
            print(f"  fix: {trouble.cure.replace('`renderfleet ', f'`{program} ')}", file=sys.stderr)
        sys.exit(trouble.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has gone, as `head` does; what else would be written has nobody to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Unreachable.exit_code)


if __name__ == "__main__":
    main()
