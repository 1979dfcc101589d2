"""Which vanished entries an account explains: what it holds against what is booked (trading-rules.md 28).

Law: a difference explains whole quantities or none, each share once; what was answered counts until it is booked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import combinations

from actors.rules.vanished import INFERRED, inferred_id
from messages.orders import OrderFilled
from messages.risk import AbsenceExplained, ExplainAbsence, PositionSeen

ZERO = Decimal(0)
Place = tuple[str, int]
"""Account and conid: where the venue nets."""
SETTLE_NS = 5_000_000_000
"""The venue's position lags its executions: within this time after a fill it is not believed."""
MOST_TRIED = 12
"""Entries of one place of which every combination is tried."""


def accounted(difference: Decimal, missing: Mapping[str, Decimal]) -> frozenset[str]:
    """Return the entries whose whole quantities (signed) together are the difference; as many as possible, or none."""
    names = [name for name, quantity in missing.items() if quantity * difference > 0]
    if names and sum((missing[name] for name in names), ZERO) == difference:
        return frozenset(names)
    for size in range(min(len(names), MOST_TRIED), 0, -1):
        for chosen in combinations(names[:MOST_TRIED], size):
            if sum((missing[name] for name in chosen), ZERO) == difference:
                return frozenset(chosen)
    return frozenset()


class Absences:
    """Questions about vanished entries, and the answers that are not booked yet."""

    def __init__(self) -> None:
        self.waiting: dict[str, ExplainAbsence] = {}
        self._answered: dict[str, tuple[Place, Decimal]] = {}
        """order id -> what was said to have filled of it (signed), until it is booked."""
        self._last_fill_ns: dict[Place, int] = {}

    def ask(self, question: ExplainAbsence) -> None:
        self.waiting[question.order_id] = question

    def filled(self, fill: OrderFilled, now: int) -> None:
        """Note that an execution was booked."""
        if fill.exec_id.startswith(INFERRED):
            self._answered.pop(fill.order_id, None)
        elif not fill.recovered:
            self._last_fill_ns[fill.account, fill.conid] = now

    def answer(
        self,
        ours: Callable[[str, int], Decimal],
        is_booked: Callable[[str], bool],
        seen: Mapping[Place, PositionSeen],
        now: int,
    ) -> list[AbsenceExplained]:
        """Answer what can be answered; what waits for a position to settle stays in `waiting`."""
        places: dict[Place, list[ExplainAbsence]] = {}
        for question in self.waiting.values():
            place = (question.account, question.conid)
            if now - self._last_fill_ns.get(place, now - SETTLE_NS) >= SETTLE_NS:
                places.setdefault(place, []).append(question)
        answers: list[AbsenceExplained] = []
        for place, questions in places.items():
            for question in questions:
                del self.waiting[question.order_id]
            answers += self._answer(place, questions, ours(*place), is_booked, seen.get(place), now)
        return answers

    def _answer(
        self,
        place: Place,
        questions: list[ExplainAbsence],
        ours: Decimal,
        is_booked: Callable[[str], bool],
        seen: PositionSeen | None,
        now: int,
    ) -> list[AbsenceExplained]:
        latest = max(questions, key=lambda question: question.ts_ns)
        held, cost = latest.held, latest.avg_cost
        if seen is not None and seen.ts_ns > latest.ts_ns:
            held, cost = seen.quantity, seen.avg_cost
        booked = ours + sum((said for there, said in self._answered.values() if there == place), ZERO)
        known = {each.order_id for each in questions if each.order_id in self._answered
                 or is_booked(inferred_id(each.order_id))}  # fmt: skip
        missing = {each.order_id: each.side.sign * each.quantity for each in questions if each.order_id not in known}
        found = accounted(held - booked, missing)
        for order_id in found:
            self._answered[order_id] = (place, missing[order_id])
        alone = len(found) == 1 and not booked
        return [
            AbsenceExplained(
                bracket_id=each.bracket_id,
                order_id=each.order_id,
                ts_ns=now,
                filled=each.quantity if each.order_id in found | known else ZERO,
                held=held,
                booked=booked,
                avg_cost=cost,
                alone=alone,
            )
            for each in questions
        ]
