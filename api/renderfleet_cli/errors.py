"""What can go wrong for the person at the terminal. Each error carries its cure, and the code the program exits with.

CliError
├─ Failed        1   a render ended badly, or what was asked for could not be done
├─ Misused       2   the command line, a manifest or the configuration is wrong; nothing was asked of anybody
└─ Unreachable   3   nobody answered: the same command may work later
"""

from typing import Final

OK: Final = 0


class CliError(Exception):
    """Said on stderr as `error: what` and, on a line of its own, `fix: cure`."""

    exit_code = 1

    def __init__(self, what: str, cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure


class Failed(CliError):
    """It could not be done, or was done and did not end well."""

    exit_code = 1


class NotThere(Failed):
    """Nothing of that name."""


class NotAllowed(Failed):
    """These credentials may not do that."""


class Misused(CliError):
    """Asking again in the same way will not help."""

    exit_code = 2


class Unreachable(CliError):
    """No answer; for a change, whether it took effect is not known unless the text says so."""

    exit_code = 3
