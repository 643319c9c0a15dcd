"""The addresses at which a vendor may tell that a job has news: one per render, that nobody can guess.

D-ID signs its callbacks with nothing, so a callback is a hint and not news: what it says is not even read. It makes us ask
the vendor now, as we would have done a little later anyway; a forged one could do no more. The code in the path keeps
strangers from making us ask at will. It is the same after a restart, so callbacks of jobs in flight stay welcome.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import quote

CODE_BYTES = 18


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Makes addresses, and knows its own again."""

    base_url: str
    """Public https address that leads to the operator's callback port."""
    secret: bytes

    def url(self, uid: str) -> str:
        """Where a vendor may tell of this render's job."""
        return f"{self.base_url.rstrip('/')}/callbacks/{quote(uid, safe='')}/{self._code(uid)}"

    def is_ours(self, uid: str, code: str) -> bool:
        """Whether we made this address."""
        return code.isascii() and hmac.compare_digest(code, self._code(uid))

    def _code(self, uid: str) -> str:
        mac = hmac.digest(self.secret, b"callback/" + uid.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac[:CODE_BYTES]).decode()
