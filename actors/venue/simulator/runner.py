"""Plays a scenario: waits for what a step waits for, then does what it says.

Law: steps run strictly in sequence; the market and the orders are changed only through the gateway and the exchange.
"""

from __future__ import annotations

from decimal import Decimal
from fnmatch import fnmatchcase

from actors.venue.simulator import acts
from actors.venue.simulator.contracts import DERIVED, STOCK_EXCHANGES, Contract
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.orders import Order
from actors.venue.simulator.scenario import NewContract, Patterns, Price, Scenario, Step, When
from actors.venue.simulator.session import Session


class ScenarioRunner:
    """The market driver of one scenario."""

    def __init__(self, gateway: Gateway, scenario: Scenario, now_ns: int) -> None:
        self.gateway = gateway
        self.scenario = scenario
        self.at = 0
        self._arrived_ns: int | None = None      # when the present step began to wait
        self._ready_ns: int | None = None        # when it may act
        self._path_at = 0
        self._seen_changes = -1
        self._placed: list[str] = []
        for contract in scenario.contract:
            gateway.contracts.add(_contract_of(contract, gateway))
        quoted = {q.symbol for q in scenario.quote}
        gateway.followers.pinned.update(acts.contract_named(gateway, q.symbol).con_id for q in scenario.quote)
        for known in gateway.contracts.movers():
            if known.symbol not in quoted:
                acts.show(gateway, Price(symbol=known.symbol, last=known.reference_price), now_ns)
        for quote in scenario.quote:
            acts.show(gateway, quote, now_ns)
        for p in scenario.position:
            account = p.account or gateway.settings.accounts[0]
            gateway.open_position(account, acts.contract_named(gateway, p.symbol), p.quantity, p.cost, now_ns)

    @property
    def done(self) -> bool:
        return self.at >= len(self.scenario.step)

    def acknowledge(self, session: Session) -> None:
        pass

    def advance(self, now_ns: int) -> int | None:
        while not self.done:
            step = self.scenario.step[self.at]
            if self._ready_ns is None:
                wait_until = self._wait(step, now_ns)
                if self._ready_ns is None:
                    return wait_until
            if now_ns < self._ready_ns:
                return self._ready_ns
            if not self._act(step, now_ns):
                continue                         # a path has more points
            self.at += 1
            self._arrived_ns = self._ready_ns = None
            self._path_at = 0
            self._seen_changes = -1
            if self.done:
                self.gateway.log(now_ns, "sim", -1, "scenario_done", {"title": self.scenario.title})
        return None

    # waiting ---------------------------------------------------------------------------------------------------

    def _wait(self, step: Step, now_ns: int) -> int | None:
        """Set the time to act once the condition holds; else return when to look again at the latest."""
        if self._arrived_ns is None:
            self._arrived_ns = now_ns
        at_most = step.when.at_most
        deadline = None if at_most is None else self._arrived_ns + self.gateway.clock.span_ns(at_most)
        late = deadline is not None and now_ns >= deadline
        if not late:
            if self._seen_changes == self.gateway.changes:
                return deadline
            self._seen_changes = self.gateway.changes
            if not self.holds(step.when):
                return deadline
        self._ready_ns = now_ns + self.gateway.clock.span_ns(step.after)
        return None

    def holds(self, when: When) -> bool:
        """Return whether everything that `when` names is so now."""
        gateway = self.gateway
        if when.clients is not None and len(gateway.by_client) < when.clients:
            return False
        if when.subscribed is not None and not gateway.watchers(acts.contract_named(gateway, when.subscribed).con_id):
            return False
        live, done = gateway.exchange.orders.values(), gateway.exchange.done.values()
        checks = (
            (when.placed, [o for o in live if o.perm_id] + list(done), None),
            (when.working, [o for o in live if o.perm_id and o.transmit and o.why_held != "child"
                            and o.status in ("PreSubmitted", "Submitted")], "remaining"),
            (when.traded, [o for o in (*live, *done) if o.filled > 0], "filled"),
            (when.filled, [o for o in done if o.status == "Filled"], "filled"),
            (when.dead, [o for o in done if o.status != "Filled"], None))
        return all(_enough(patterns, orders, attribute, when)
                   for patterns, orders, attribute in checks if patterns is not None)

    # acting ----------------------------------------------------------------------------------------------------

    def _act(self, step: Step, now_ns: int) -> bool:
        """Do the step's action; False while a path has points left."""
        if self._path_at == 0:
            self.gateway.log(now_ns, "sim", -1, "step", {"step": self.at + 1, "say": step.say, "do": step.action})
        if step.path is not None:
            acts.show(self.gateway, Price(symbol=step.path.symbol, last=step.path.lasts[self._path_at]), now_ns)
            self._path_at += 1
            if self._path_at < len(step.path.lasts):
                self._ready_ns = now_ns + self.gateway.clock.span_ns(step.path.every)
                return False
        else:
            try:
                self._do(step, now_ns)
            except acts.NoOrder as nobody:
                self._say_missing(nobody, now_ns)
        return True

    def _do(self, step: Step, now_ns: int) -> None:
        gateway = self.gateway
        if step.price is not None:
            acts.show(gateway, step.price, now_ns)
        elif step.halt is not None:
            acts.halt(gateway, step.halt, now_ns)
        elif step.disconnect is not None:
            acts.disconnect(gateway, step.disconnect.client_id)
        elif step.fault is not None:
            gateway.faults.add(step.fault, now_ns)
        elif step.fill is not None:
            acts.fill(gateway, step.fill, now_ns)
        elif step.fill_both is not None:
            for nobody in acts.fill_both(gateway, step.fill_both, now_ns):
                self._say_missing(nobody, now_ns)
        elif step.reject is not None:
            acts.reject(gateway, step.reject, now_ns)
        elif step.refuse_next is not None:
            acts.refuse_next(gateway, step.refuse_next)
        elif step.cancel is not None:
            acts.cancel(gateway, step.cancel, now_ns)

    def _say_missing(self, nobody: acts.NoOrder, now_ns: int) -> None:
        """A step about an order that is gone does nothing, and says so."""
        self.gateway.log(now_ns, "sim", -1, "step_found_no_order", {"step": self.at + 1, "orderRef": nobody.pattern})


def _contract_of(c: NewContract, gateway: Gateway) -> Contract:
    """Return what a [[contract]] table describes; an option or future follows the named `under`."""
    under = gateway.contracts.named(c.under or c.symbol)
    derived = c.sec_type in DERIVED
    return Contract(
        con_id=c.con_id, symbol=c.symbol, sec_type=c.sec_type, expiry=c.expiry, strike=c.strike or Decimal(0),
        right=c.right, multiplier=c.multiplier or ("100" if c.sec_type == "OPT" else ""), exchange=c.exchange,
        currency=c.currency, local_symbol=c.local_symbol, trading_class=c.trading_class, long_name=c.long_name,
        primary_exchange="" if c.sec_type in DERIVED else c.primary_exchange, min_tick=c.min_tick,
        valid_exchanges=STOCK_EXCHANGES if c.exchange == "SMART" else c.exchange,
        stock_type="COMMON" if c.sec_type == "STK" else "", market_rule_id=c.market_rule_id,
        reference_price=c.reference_price, optionable=c.optionable,
        under_con_id=under.con_id if under and derived else 0,
        under_sec_type=under.sec_type if under and derived else "",
        daily_volume=0 if c.sec_type in ("IND", "CASH") else 1_000_000)


def _enough(patterns: Patterns, orders: list[Order], attribute: str | None, when: When) -> bool:
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        fitting = [o for o in orders if fnmatchcase(o.order_ref, pattern)]
        if len(fitting) < when.count:
            return False
        if when.shares is not None and attribute is not None:
            shares = sum((getattr(o, attribute) for o in fitting), Decimal(0))
            if shares < when.shares:
                return False
    return True
