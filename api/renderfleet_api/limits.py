"""How often a key may call: a token bucket per key and replica, told in the RateLimit fields.

Fields as in draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` says the rule, `RateLimit` what is left.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from .problems import TooManyRequests

_BUCKETS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Limits:
    """Token buckets in memory: a limit that protects this process needs no shared state."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def spend(self, request: Request, key_id: str) -> None:
        """Take one token. Raises TooManyRequests when there is none."""
        now = self._clock()
        bucket = self._buckets.get(key_id)
        if bucket is None:
            if len(self._buckets) >= _BUCKETS:
                self._buckets.clear()
            bucket = self._buckets[key_id] = _Bucket(float(self._burst), now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        fields = {"RateLimit-Policy": f'"key";q={self._burst};w={math.ceil(self._burst / self._rate)}'}
        if bucket.tokens < 1:
            pause = (1 - bucket.tokens) / self._rate
            fields["RateLimit"] = f'"key";r=0;t={math.ceil(pause)}'
            raise TooManyRequests("This key calls too often.", retry_after_seconds=math.ceil(pause), headers=fields)
        bucket.tokens -= 1
        fields["RateLimit"] = f'"key";r={int(bucket.tokens)};t={math.ceil((self._burst - bucket.tokens) / self._rate)}'
        request.state.rate_fields = fields
