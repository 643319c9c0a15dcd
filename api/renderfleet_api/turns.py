"""Let requests of one tenant that would wait for the same database lock wait here instead.

There they would each hold a connection while they wait, and a burst of one tenant would leave none for the others.
"""

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """One turn at a time per namespace and process; between processes, the database's lock decides."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, namespace: str) -> asyncio.Lock:
        """To be held while the namespace's lock is taken; forgotten when nobody waits for it any more."""
        lock = self._locks.get(namespace)
        if lock is None:
            lock = self._locks[namespace] = asyncio.Lock()
        return lock
