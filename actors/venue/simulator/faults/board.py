"""The fault board: every fault that is set, and the places of the gateway where they may act.

Law: while `active` is False nobody calls here and the gateway behaves as if there were no faults. Whatever a fault does
is a `fault` line of the journal with its name, its number, its aim and what it touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.venue.simulator.desks.orders import amends
from actors.venue.simulator.faults import arrivals, events, speech, tellings
from actors.venue.simulator.faults.aiming import Armed, Occasion
from actors.venue.simulator.faults.kinds import (
    ArrivalFault,
    ClientIdLinger,
    EventFault,
    Fault,
    MessageFault,
    PriceNegative,
    ReportFault,
    StreamFault,
    aim_of,
    plain,
)
from actors.venue.simulator.order_request import PlaceOrder

if TYPE_CHECKING:
    from actors.venue.simulator.gateway import Gateway
    from actors.venue.simulator.orders import Order
    from actors.venue.simulator.reports import Report
    from actors.venue.simulator.requests import Request
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
STAGES = (ArrivalFault, ReportFault, MessageFault, PriceNegative, StreamFault, ClientIdLinger, EventFault)
MAX_FAULTS = 1000


class FaultBoard:
    """All faults of one gateway. `active` becomes True with the first one and stays so."""

    def __init__(self, gateway: Gateway, seed: int) -> None:
        self.gateway = gateway
        self.seed = seed
        self.active = False
        self.armed: dict[int, Armed] = {}
        self.now_ns = gateway.opened_ns
        self.happening = False             # while an event does its work: what is said of it brings no other event
        self.placing = False               # while a new order is being handled: what is told now acknowledges it
        self.reports = tellings.Tellings(self)
        self.speech = speech.Speech(self)
        self.arrivals = arrivals.Arrivals(self)
        self._stages: dict[type[Fault], list[Armed]] = {stage: [] for stage in STAGES}
        self._lingering: dict[int, int] = {}
        self._clocks: list[tuple[int, Armed]] = []
        self._last = 0

    # set and removed -------------------------------------------------------------------------------------------

    def add(self, fault: Fault, now_ns: int) -> int:
        """Set a fault and return its number. Raises ValueError when there are too many, or it names what is not."""
        if len(self.armed) >= MAX_FAULTS:
            raise ValueError(f"{MAX_FAULTS} faults are set; remove some first")
        contract = getattr(fault, "contract", None)
        if contract is not None and self.gateway.contracts.named(contract) is None:
            raise ValueError(f"fault {fault.kind}: contract {contract!r} is not known")
        self._last += 1
        armed = Armed(fault, self._last, self.seed, now_ns, self.gateway.exchange_ns(now_ns))
        self.armed[self._last] = armed
        self._of(fault).append(armed)
        self.active = True
        self.now_ns = now_ns
        told = {name: value for name, value in plain(fault).items() if name != "name"}
        self.gateway.log(now_ns, "sim", -1, "fault_set", {"number": self._last, "fault": fault.kind, "as": told})
        if isinstance(fault, EventFault) and fault.message is None:
            events.schedule(self, armed, now_ns)
        return self._last

    def remove(self, number: int, now_ns: int) -> bool:
        """Take a fault away; what it has begun comes to its end."""
        armed = self.armed.pop(number, None)
        if armed is None:
            return False
        armed.left = 0
        self._of(armed.fault).remove(armed)
        self.gateway.log(now_ns, "sim", -1, "fault_removed", {"number": number, "fault": armed.fault.kind})
        return True

    def listed(self) -> list[dict[str, Any]]:
        """Return every fault that is set, with how often it was met and acted."""
        return [{"number": number, **plain(a.fault), "met": a.seen, "acted": a.acted, "spent": a.spent}
                for number, a in self.armed.items()]

    def _of(self, fault: Fault) -> list[Armed]:
        return next(self._stages[stage] for stage in STAGES if isinstance(fault, stage))

    # for those who act -----------------------------------------------------------------------------------------

    def of(self, stage: type[Fault]) -> list[Armed]:
        return self._stages[stage]

    def firing(self, stage: type[Fault], what: Occasion, now_ns: int) -> list[Fault]:
        """Return the faults of this stage that act on the occasion, each written into the journal."""
        return [a.fault for a in self._stages[stage] if self.fires(a, what, now_ns)]

    def fires(self, armed: Armed, what: Occasion, now_ns: int) -> bool:
        """Ask one fault, and journal what it will touch."""
        if armed.spent or not armed.fires(what, now_ns, self.gateway.exchange_ns(now_ns)):
            return False
        self.note(armed, what, now_ns)
        return True

    def note(self, armed: Armed, what: Occasion, now_ns: int, **more: Any) -> None:
        """Write what a fault did into the journal."""
        touched = {"touched": what.message, "orderRef": what.ref, "symbol": what.symbol}
        self.gateway.log(now_ns, "sim", -1 if what.client is None else what.client, "fault", {
            "number": armed.number, "fault": armed.fault.kind, "aim": aim_of(armed.fault),
            **{name: value for name, value in touched.items() if value is not None}, **more})

    def about(self, session: Session, request: Request | PlaceOrder) -> Occasion:
        """Return the occasion of a request, with the order that it concerns."""
        if isinstance(request, PlaceOrder):
            name = "modifyOrder" if amends(session, request) else "placeOrder"
            return Occasion(session.client_id, name, request.order_ref, request.contract.symbol)
        if request.name == "cancelOrder":
            order = self.gateway.known_order(session.client_id, request.req_id)
            if order is not None:
                return Occasion(session.client_id, request.name, order.order_ref, order.contract.symbol)
        symbol = request.contract.symbol if request.contract is not None else None
        return Occasion(session.client_id, request.name, None, symbol)

    def about_order(self, order: Order, message: str) -> Occasion:
        return Occasion(order.client_id, message, order.order_ref, order.contract.symbol)

    # where the gateway asks ------------------------------------------------------------------------------------

    def arriving(self, session: Session, request: Request | PlaceOrder, now_ns: int) -> bool:
        """Hear of a request before anybody has; False: it does not reach the gateway."""
        self.now_ns = now_ns
        return self.arrivals.lets_pass(session, request, now_ns)

    def starting(self, session: Session, request: Request | PlaceOrder, now_ns: int) -> None:
        """Hear of a client that is let in, before it is told its ids."""
        self.now_ns = now_ns
        self.arrivals.start(session, now_ns)
        self._trigger(session, Occasion(session.client_id, "startApi"), now_ns)

    def handle(self, session: Session, request: Request | PlaceOrder, now_ns: int) -> None:
        """Do what a request asks for, in the way that the faults leave."""
        what = self.about(session, request)
        self.placing = what.message == "placeOrder"
        try:
            if not (self.gateway.link.down and self.gateway.link.takes(session, request, now_ns)):
                self.arrivals.handle(session, request, what, now_ns)
        finally:
            self.placing = False
        self.arrivals.after(session, now_ns)
        self._trigger(session, what, now_ns)

    def deliver(self, reports: list[Report], now_ns: int) -> None:
        """Journal what the exchange did, and tell it in the way that the faults leave."""
        self.now_ns = now_ns
        self.reports.deliver(reports, now_ns)

    def outgoing(self, session: Session, name: str, data: bytes, now_ns: int, fields: dict[str, Any]) -> None:
        """Send one message in the way that the faults leave."""
        self.now_ns = now_ns
        what = self.speech.about(session, name, fields)
        self.speech.say(session, what, data, now_ns, fields)
        if session.client_id >= 0:
            self._trigger(session, what, now_ns)

    def tick(self, session: Session, data: bytes) -> bytes:
        """Return market data as the faults leave it."""
        return self.speech.tick(session, data)

    def cut(self, session: Session, now_ns: int) -> list[bytes]:
        """Return what is to be written to a client now, in pieces."""
        self.now_ns = now_ns
        return self.speech.cut(session, now_ns)

    def disconnected(self, session: Session, now_ns: int) -> None:
        """Hear that a client has gone."""
        what = Occasion(session.client_id, "disconnect")
        for fault in self.firing(ClientIdLinger, what, now_ns):
            assert isinstance(fault, ClientIdLinger)
            until = now_ns + int(fault.dt * NS)
            self._lingering[session.client_id] = max(until, self._lingering.get(session.client_id, 0))

    def lingers(self, client_id: int, now_ns: int) -> bool:
        """Return whether an id whose client has gone is still taken."""
        until = self._lingering.get(client_id)
        if until is None or now_ns < until:
            return until is not None
        del self._lingering[client_id]
        return False

    # events ----------------------------------------------------------------------------------------------------

    def await_clock(self, due_ex_ns: int, armed: Armed) -> None:
        self._clocks.append((due_ex_ns, armed))

    def on_clock(self, now_ns: int, ex_ns: int) -> int | None:
        """Let the events happen whose time on the exchange's clock has come; return the next such time on it."""
        self.now_ns = now_ns
        due = [entry for entry in self._clocks if entry[0] <= ex_ns]
        if due:
            self._clocks = [entry for entry in self._clocks if entry[0] > ex_ns]
            for _, armed in due:
                events.on_clock(self, armed, now_ns, ex_ns)
        return min((when for when, _ in self._clocks), default=None)

    def _trigger(self, session: Session, what: Occasion, now_ns: int) -> None:
        if self.happening:
            return
        for armed in self._stages[EventFault]:
            fault = armed.fault
            if fault.message is not None and not armed.spent and \
                    armed.fires(what, now_ns, self.gateway.exchange_ns(now_ns)):
                events.soon(self, armed, what, session, now_ns)
