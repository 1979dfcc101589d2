"""What is due later: timed work of the desks and of the faults, on whatever clock the caller brings.

Law: work runs only inside `run`, in order of time and then of arrival; work that was cancelled never runs.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Work = Callable[[int], int | None]
"""Called with the caller's time; returns when to be called again (UTC nanoseconds, on the agenda's own clock), or None
when it is over."""


class Entry:
    """One piece of work that waits. `cancel` may be called at any time, also from the work itself."""

    __slots__ = ("_agenda", "due_ns", "work")

    def __init__(self, agenda: Agenda, due_ns: int, work: Work) -> None:
        self._agenda = agenda
        self.due_ns = due_ns
        self.work: Work | None = work

    def cancel(self) -> None:
        if self.work is not None:
            self.work = None
            self._agenda.cancelled()


class Agenda:
    """All that waits for its time."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Entry]] = []
        self._arrivals = itertools.count()
        self._cancels = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, due_ns: int, work: Work) -> Entry:
        """Do this once its time has come, and again when it says so."""
        entry = Entry(self, due_ns, work)
        heapq.heappush(self._heap, (due_ns, next(self._arrivals), entry))
        return entry

    def run(self, now_ns: int, until_ns: int | None = None) -> None:
        """Do everything that is due; what asks for a time that is already over runs again in the next call.

        An agenda that is kept on another clock than the caller's is told both: what is due until `until_ns` on its own
        clock is done, and is given `now_ns`.
        """
        until_ns = now_ns if until_ns is None else until_ns
        due = []
        while (first := self.next_ns()) is not None and first <= until_ns:
            due.append(heapq.heappop(self._heap)[2])
        for entry in due:
            if entry.work is None:
                continue
            again = entry.work(now_ns)
            if again is not None and entry.work is not None:
                entry.due_ns = again
                heapq.heappush(self._heap, (again, next(self._arrivals), entry))

    def cancelled(self) -> None:
        """Hear that an entry was cancelled: when they are the most, they are thrown out before their time."""
        self._cancels += 1
        if self._cancels > 64 and self._cancels * 2 > len(self._heap):
            self._heap = [each for each in self._heap if each[2].work is not None]
            heapq.heapify(self._heap)
            self._cancels = 0

    def next_ns(self) -> int | None:
        """Return when the next work is due, or None."""
        while self._heap and self._heap[0][2].work is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
