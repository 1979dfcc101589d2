"""A journal at work, and the caller that waits for it: what the ledger actor does, without an actor."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable
from typing import Any

from actors.rules.legs import leg_rows
from messages.base import Message
from messages.ledger import BracketOpened, StoredBracket
from messages.orders import CommissionReported, Definition, OrderFilled
from storage.journal import Answer, BracketBatch, Journal, Opened, Outcome
from storage.store import Entry, Group, Refused
from tests.builders import NOW_NS

DEADLINE_S = 45.0


def opened(of: Definition) -> BracketOpened:
    """Build the first record of a bracket."""
    return BracketOpened(bracket_id=of.bracket_id, definition=of, rows=leg_rows(of), ts_ns=of.opened_ns)


def entry(event: Message, key: str | None = None, reason: str = "", token: Any = None) -> Entry:
    """Wrap a record as the ledger actor does."""
    if key is None:
        if isinstance(event, BracketOpened):
            key = f"open:{event.bracket_id}"
        elif isinstance(event, OrderFilled):
            key = f"exec:{event.exec_id}:{event.revision}"
        elif isinstance(event, CommissionReported):
            key = f"fee:{event.exec_id}"
        else:
            key = f"{type(event).__name__}:{time.perf_counter_ns()}:{id(event)}"
    return Entry(key, getattr(event, "bracket_id", None), event, getattr(event, "ts_ns", NOW_NS), reason, token)


class Desk:
    """Appends, waits, and remembers every outcome."""

    def __init__(self, url: str, **options: int) -> None:
        self.journal = Journal(url, time.time_ns, **options)
        self.outcomes: list[Outcome] = []
        self._closed = False
        self.journal.start()

    def wait(self, condition: Callable[[], Any], what: str = "an outcome", deadline_s: float = DEADLINE_S) -> None:
        """Collect outcomes until the condition holds."""
        deadline = time.monotonic() + deadline_s
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"{what} did not come within {deadline_s} s; there came {self.outcomes[-3:]}"
            select.select([self.journal.fileno()], [], [], left)
            self.outcomes += self.journal.collect()

    def of(self, kind: type) -> list[Any]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, kind)]

    @property
    def epoch(self) -> int:
        self.wait(lambda: self.of(Opened), "Opened")
        return int(self.of(Opened)[0].epoch)

    @property
    def done(self) -> list[Entry]:
        return [entry for group in self.of(Group) for entry in group.done]

    @property
    def refused(self) -> list[Refused]:
        return [refusal for group in self.of(Group) for refusal in group.refused]

    def append(self, *events: Message | Entry) -> None:
        """Hand records over without waiting."""
        for event in events:
            self.journal.append(event if isinstance(event, Entry) else entry(event))

    def keep(self, *events: Message | Entry) -> None:
        """Append records and wait until all of them are on the disk, or refused."""
        before = len(self.done) + len(self.refused)
        self.append(*events)
        self.wait(lambda: len(self.done) + len(self.refused) >= before + len(events), f"{len(events)} acknowledgements")

    def ask(self, work: Callable[[Any], Any]) -> Any:
        """Run work on the writer thread and return its answer."""
        token = object()
        self.journal.ask(token, work)
        self.wait(lambda: any(answer.token is token for answer in self.of(Answer)), "the answer")
        answer = next(answer for answer in self.of(Answer) if answer.token is token)
        assert not answer.problem, answer.problem
        return answer.value

    def load(self) -> list[StoredBracket]:
        """Read all open brackets."""
        token = object()
        self.journal.load_brackets(token)

        def batches() -> Iterable[BracketBatch]:
            return [batch for batch in self.of(BracketBatch) if batch.token is token]

        self.wait(lambda: any(batch.last for batch in batches()), "the last batch")
        return [bracket for batch in batches() for bracket in batch.brackets]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            assert self.journal.close(DEADLINE_S), "the writer thread did not end"
