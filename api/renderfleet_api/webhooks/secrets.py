"""Endpoint secrets: shown once to their owner, sealed in the table, opened only to sign.

Source of form and signature: the Standard Webhooks specification, symmetric scheme (`whsec_`, `v1,`).
"""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography.fernet import Fernet
from standardwebhooks import Webhook

PREFIX = "whsec_"
OLD_SECRET_SIGNS_FOR = timedelta(hours=24)


def new_secret() -> str:
    """A fresh secret with 192 bits of randomness."""
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


class Safe:
    """Seals and opens secrets under a key that comes from the server's own."""

    def __init__(self, key_secret: str) -> None:
        key = hashlib.sha256(b"renderfleet webhook secrets\n" + key_secret.encode()).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, secret: str) -> bytes:
        """What is stored."""
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """The secret again. Raises InvalidToken when the server's key is another now."""
        return self._fernet.decrypt(bytes(sealed)).decode()


def signature(valid: Sequence[str], event_id: str, at: datetime, body: str) -> str:
    """The `webhook-signature` header: one signature per valid secret, so that receivers may change at their leisure."""
    return " ".join(Webhook(secret).sign(event_id, at, body) for secret in valid)


def valid_secrets(sealed: Sequence[bytes], rotated_at: datetime | None, now: datetime, safe: Safe) -> list[str]:
    """The secrets that sign now: the newest, and older ones for a day after the rotation."""
    keep_old = rotated_at is not None and now - rotated_at < OLD_SECRET_SIGNS_FOR
    return [safe.open(one) for one in (sealed if keep_old else sealed[:1])]
