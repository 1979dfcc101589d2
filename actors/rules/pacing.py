"""How fast we may write: a token bucket with room that entries cannot take from exits and cancels.

Law: pure; the clock comes in. Rates are messages a second; IB disconnects a client beyond 50 in any second.
"""

from __future__ import annotations

from messages.base import Record

IB_LIMIT_PER_S = 50.0
NS = 1_000_000_000


class Rate(Record, frozen=True, kw_only=True):
    """The limits: `per_s` for everything, of which `reserved_per_s` is for exits, cancels and questions only."""

    per_s: float
    reserved_per_s: float

    @property
    def burst(self) -> float:
        """What may go at once after a pause, so that no second ever sees more than IB's limit."""
        if self.per_s > IB_LIMIT_PER_S:
            return self.per_s
        return max(1.0, IB_LIMIT_PER_S - self.per_s)

    @property
    def entry_burst(self) -> float:
        return max(1.0, self.burst * (self.per_s - self.reserved_per_s) / self.per_s)


class Bucket(Record, frozen=True, kw_only=True):
    """What is left to spend: `total` by anybody, `entries` by entries. `at_ns`: when that was true."""

    total: float
    entries: float
    at_ns: int


def full(rate: Rate, now_ns: int) -> Bucket:
    """Return a bucket after a long pause."""
    return Bucket(total=rate.burst, entries=rate.entry_burst, at_ns=now_ns)


def refill(bucket: Bucket, rate: Rate, now_ns: int) -> Bucket:
    """Return the bucket as it is now. A clock that went back gives nothing, and from then on the new one counts."""
    seconds = max(0, now_ns - bucket.at_ns) / NS
    return Bucket(
        total=min(rate.burst, bucket.total + seconds * rate.per_s),
        entries=min(rate.entry_burst, bucket.entries + seconds * (rate.per_s - rate.reserved_per_s)),
        at_ns=now_ns,
    )


def wait_ns(bucket: Bucket, rate: Rate, now_ns: int, *, entry: bool) -> int:
    """Return how long the next message of this kind must wait; 0: it may go now."""
    if not entry and bucket.total >= 1.0:
        return 0  # time only adds
    now = refill(bucket, rate, now_ns)
    seconds = max(0.0, 1.0 - now.total) / rate.per_s
    if entry:
        seconds = max(seconds, max(0.0, 1.0 - now.entries) / (rate.per_s - rate.reserved_per_s))
    return int(seconds * NS) + 1 if seconds > 1e-9 else 0


def spend(bucket: Bucket, rate: Rate, now_ns: int, *, entry: bool) -> Bucket:
    """Return the bucket after one message was written. It may go below zero: what was written was written."""
    now = refill(bucket, rate, now_ns)
    return Bucket(total=now.total - 1.0, entries=now.entries - 1.0 if entry else now.entries, at_ns=now.at_ns)
