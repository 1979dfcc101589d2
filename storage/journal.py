"""The writer thread: takes records from an actor, commits them in groups, hands the acknowledgements back.

Law: nothing is acknowledged before it is committed, and nothing that was accepted is dropped: trouble with the database
is reported once and tried again until it ends. No database call, reads included, happens on the caller's thread; the
caller learns of outcomes by a descriptor that becomes readable.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from messages.ledger import StoredBracket
from storage.database import StorageError, is_transient, open_database, redacted
from storage.store import BATCH_BRACKETS, Entry, Group, Store, in_batches

T = TypeVar("T")

GROUP = 500
"""Records in one transaction at most: a large one delays its first acknowledgement."""
LIMIT = 100_000
"""Records that may wait before the journal calls itself overloaded."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.02, 2.0


class Opened(NamedTuple):
    """The database is open. `epoch` counts the starts of writers."""

    epoch: int


class Answer(NamedTuple):
    """What was read or reserved. `problem` is a sentence when it could not be, and then `value` is None."""

    token: Any
    value: Any
    problem: str = ""


class BracketBatch(NamedTuple):
    """Some of the open brackets, oldest first; `last` with the final batch."""

    token: Any
    brackets: tuple[StoredBracket, ...]
    last: bool


class Unreadable(NamedTuple):
    """A bracket that is kept and cannot be read by this program: a person must look after it."""

    bracket_id: str
    reason: str


class Trouble(NamedTuple):
    """The database refuses or is gone. Said once; what waits is tried again unless `final`."""

    reason: str
    ts_ns: int
    final: bool = False


class Recovered(NamedTuple):
    """The database works again."""

    ts_ns: int


Outcome = Opened | Group | Answer | BracketBatch | Unreadable | Trouble | Recovered


class _Ask(NamedTuple):
    token: Any
    work: Callable[[Store], Any]


class _Load(NamedTuple):
    token: Any


class _Stop(NamedTuple):
    pass


class _Ended(Exception):
    pass


class Journal:
    """A writer thread and its queue. Make and start it in the process that uses it: neither survives a fork.

    `clock` gives UTC nanoseconds and is read by the writer thread, for outcomes only.
    """

    def __init__(self, url: str, clock: Callable[[], int], *, limit: int = LIMIT, group: int = GROUP) -> None:
        self.url = url
        self.limit = limit
        self.group = group
        self._clock = clock
        self._queue: SimpleQueue[Entry | _Ask | _Load | _Stop] = SimpleQueue()
        self._outcomes: deque[Outcome] = deque()
        self._read_fd, self._write_fd = _doorbell()
        self._stopping = threading.Event()
        self._abandon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._accepted = 0
        self._finished = 0
        self._store: Store | None = None
        self._epoch = 0
        self._in_trouble = False

    # -- the caller's side -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; `Opened` or `Trouble` follows."""
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that is readable while there is something to `collect`."""
        return self._read_fd

    @property
    def waiting(self) -> int:
        """How many records were accepted and are not on the disk yet."""
        return self._accepted - self._finished

    @property
    def overloaded(self) -> bool:
        """Whether so much waits that no new bracket should be opened. Records of live ones are taken all the same."""
        return self.waiting >= self.limit

    def append(self, entry: Entry) -> None:
        """Hand one record over; it comes back in a `Group` once it is on the disk."""
        self._accepted += 1
        self._queue.put(entry)

    def ask(self, token: Any, work: Callable[[Store], Any]) -> None:
        """Run `work` on the writer thread after everything appended so far; an `Answer` follows.

        It may be run again after trouble, so it reads, or repeats harmlessly.
        """
        self._queue.put(_Ask(token, work))

    def load_brackets(self, token: Any) -> None:
        """Read every bracket that is not over; one or more `BracketBatch` follow."""
        self._queue.put(_Load(token))

    def collect(self) -> list[Outcome]:
        """Return the outcomes since the last call, in order. Never blocks."""
        _silence(self._read_fd)
        found: list[Outcome] = []
        while True:
            try:
                outcome = self._outcomes.popleft()
            except IndexError:
                return found
            if isinstance(outcome, Group):
                self._finished += len(outcome.done) + len(outcome.refused)
            found.append(outcome)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Commit what waits, end the thread, close the descriptors; False if it did not end in time.

        What is not on the disk by then was never acknowledged.
        """
        self._stopping.set()
        self._queue.put(_Stop())
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._abandon.set()
        if self._thread.is_alive():
            self._thread.join(0.2)
        ended = not self._thread.is_alive()
        if ended:  # else the descriptors are left to the thread that may still ring
            for fd in {self._read_fd, self._write_fd}:
                os.close(fd)
        return ended

    # -- the thread's side -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._attempt(lambda store: None)
            self._say(Opened(self._epoch))
            while self._turn():
                pass
        except _Ended:
            pass
        finally:
            self._disconnect()

    def _turn(self) -> bool:
        """Take what waits and do it in order; False after the word to stop."""
        entries: list[Entry] = []
        other: _Ask | _Load | _Stop | None = None
        item = self._queue.get()
        try:
            while True:
                if not isinstance(item, Entry):
                    other = item
                    break
                entries.append(item)
                if len(entries) >= self.group:
                    break
                item = self._queue.get_nowait()
        except Empty:
            pass
        if entries:
            self._say(self._attempt(lambda store: store.append(entries)))
        if isinstance(other, _Ask):
            self._answer(other)
        elif isinstance(other, _Load):
            self._load(other)
        return not isinstance(other, _Stop)

    def _answer(self, ask: _Ask) -> None:
        def work(store: Store) -> Answer:
            try:
                return Answer(ask.token, ask.work(store))
            except Exception as problem:
                if is_transient(problem):
                    raise
                return Answer(ask.token, None, f"{type(problem).__name__}: {problem}")

        self._say(self._attempt(work))
        self._warn()

    def _warn(self) -> None:
        """Tell of the brackets that could not be read."""
        if self._store is not None and self._store.unreadable:
            for bracket_id, reason in self._store.unreadable:
                self._say(Unreadable(bracket_id, reason))
            self._store.unreadable.clear()

    def _load(self, load: _Load) -> None:
        ids = self._attempt(lambda store: store.open_brackets())
        for start in range(0, len(ids), BATCH_BRACKETS):
            part = ids[start : start + BATCH_BRACKETS]
            brackets = self._attempt(lambda store, part=part: store.stored_brackets(part))  # type: ignore[misc]
            for batch in in_batches(brackets):
                self._say(BracketBatch(load.token, batch, False))
            self._warn()
        self._say(BracketBatch(load.token, (), True))

    def _attempt(self, work: Callable[[Store], T]) -> T:
        """Do it until it is done. Raises _Ended when the database can never be used, or the caller gave up waiting."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                found = work(self._connected())
            except StorageError as problem:
                self._say(Trouble(str(problem), self._clock(), final=True))
                raise _Ended from None
            except Exception as problem:
                self._disconnect()
                if not self._in_trouble:
                    self._in_trouble = True
                    reason = " ".join(f"{type(problem).__name__}: {problem}".split())
                    self._say(Trouble(f"database {redacted(self.url)}: {reason}", self._clock()))
                if self._abandon.wait(wait_s):
                    raise _Ended from None
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                if self._in_trouble:
                    self._in_trouble = False
                    self._say(Recovered(self._clock()))
                return found

    def _connected(self) -> Store:
        if self._store is None:
            store = Store(open_database(self.url, self._clock()))
            if not self._epoch:
                self._epoch = store.begin_epoch(f"{os.uname().nodename}:{os.getpid()}")
            self._store = store
        return self._store

    def _disconnect(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.database.close()

    def _say(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        _ring(self._write_fd)


# -- the doorbell ----------------------------------------------------------------------------------------------------


def _doorbell() -> tuple[int, int]:
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    return reading, writing


def _ring(fd: int) -> None:
    try:
        os.write(fd, (1).to_bytes(8, sys.byteorder))
    except BlockingIOError:  # a full pipe rings already
        pass


def _silence(fd: int) -> None:
    try:
        while len(os.read(fd, 4096)) == 4096:
            pass
    except BlockingIOError:
        pass

