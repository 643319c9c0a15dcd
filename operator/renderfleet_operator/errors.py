"""What can go wrong in the operator itself.

OperatorError
├─ NotYet              something that others must do first; tried again, and no cause for alarm
│  └─ CredentialsMissing   the provider's Secret, or the key in it
├─ LostLease           another replica leads: this process must stop
└─ SettingsWrong       an administrator must act; the message says on what
"""


class OperatorError(Exception):
    """A failure of ours."""


class NotYet(OperatorError):
    """Try again soon."""

    is_expected = True

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class CredentialsMissing(NotYet):
    """A provider's key is not there."""


class LostLease(OperatorError):
    """Another replica leads."""


class SettingsWrong(OperatorError):
    """The environment does not make a working operator."""
