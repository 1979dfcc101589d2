"""What may become a bracket: size, value and price within bounds, and one direction per account and contract.

Law: what is in flight counts as if it were there already; a quantity is never promised twice (trading-rules.md 7).
Everything is refused with the same kind of sentence as at the edge. Short sales of stocks are allowed: whether shares
can be borrowed is the venue's answer for now (its refusal ends the bracket before anything is open).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from actors.rules import prices
from actors.rules.refusal import Refused, plain
from messages.intent import Intent, Shape, Side
from messages.ledger import PositionChanged
from messages.orders import Contract, OrderFilled, Role
from messages.risk import PositionSeen
from messages.settings import RiskSettings

ZERO = Decimal(0)
Place = tuple[str, int]
"""Account and conid: where the venue nets."""

SETTLE_NS = 5_000_000_000
"""The venue's position lags its executions: within this time after a fill it is not believed."""


# -- one order by itself ---------------------------------------------------------------------------------------


def check_order(intent: Intent, contract: Contract, limits: RiskSettings, marks: Mapping[str, Decimal]) -> None:
    """Refuse what is too large, too dear, off the price grid or far from the last known prices. Raises Refused."""
    if contract.sec_type != "STK":
        raise Refused("not_built", "instrument", f"'{intent.instrument}' ({contract.sec_type})",
                      "only stocks are traded so far", "is not supported yet")
    check_quantity(intent.quantity, limits)
    for field, price in _entry_prices(intent):
        if not prices.on_grid(contract, price):
            step = prices.increment_at(contract, price)
            raise Refused("price_grid", field, plain(price), f"it must be a multiple of {plain(step)}",
                          f"is not on the price grid of {contract.instrument}")
    check_notional(intent, contract, limits, marks.get(intent.instrument))
    for field, instrument, price in all_prices(intent):
        check_price(field, price, instrument, limits, marks.get(instrument))


def check_quantity(quantity: Decimal, limits: RiskSettings) -> None:
    """Refuse more than the largest order allowed; also for an amendment. Raises Refused."""
    if quantity > limits.max_order_quantity:
        raise Refused("max_quantity", "quantity", plain(quantity),
                      f"an order may be for at most {plain(limits.max_order_quantity)} (setting"
                      " risk.max_order_quantity)", "is too large")


def check_notional(intent: Intent, contract: Contract, limits: RiskSettings, mark: Decimal | None) -> None:
    """Refuse an order whose value is too large, at the highest price that is known of it.

    A market order of an instrument without a known price is valued at its exits; without those only its quantity is
    bounded, because nothing says what it is worth.
    """
    known = [price for _, price in _entry_prices(intent)]
    if not known and mark is not None:
        known = [mark]
    if not known:
        known = [price for _, instrument, price in all_prices(intent) if instrument == intent.instrument]
    value = max(known, default=ZERO) * intent.quantity * contract.multiplier
    if value > limits.max_order_notional:
        raise Refused("max_notional", "quantity", plain(intent.quantity),
                      f"an order may be worth at most {plain(limits.max_order_notional)} {contract.currency} (setting"
                      " risk.max_order_notional)",
                      f"x {plain(max(known))} is worth {plain(value)} {contract.currency}")


def check_price(
    field: str, price: Decimal, instrument: str, limits: RiskSettings, mark: Decimal | None
) -> None:
    """Refuse a price too far from the last known one, a slip of the hand; without a known price say nothing."""
    if mark is None or mark <= 0:
        return
    if abs(price - mark) > limits.max_price_deviation * mark:
        share = plain(limits.max_price_deviation * 100)
        raise Refused("price_deviation", field, plain(price), f"it may be at most {share} % away (setting"
                      " risk.max_price_deviation)", f"is too far from the last price {plain(mark)} of {instrument}")


def _entry_prices(intent: Intent) -> Iterator[tuple[str, Decimal]]:
    for field in ("limit_price", "stop_price"):
        price = getattr(intent, field)
        if price is not None:
            yield field, price


def all_prices(intent: Intent) -> Iterator[tuple[str, str, Decimal]]:
    """Return (field, instrument, price) of every absolute price in an intent."""
    name = intent.instrument
    for field, price in _entry_prices(intent):
        yield field, name, price
    for number, tranche in enumerate(intent.exits, 1):
        path = f"exits[{number}]"
        if tranche.target is not None and tranche.target.price is not None:
            yield f"{path}.target.price", name, tranche.target.price
        if tranche.stop is not None:
            for field in ("price", "limit_price"):
                price = getattr(tranche.stop, field)
                if price is not None:
                    yield f"{path}.stop.{field}", name, price
        if tranche.trailing_stop is not None and tranche.trailing_stop.activation_price is not None:
            yield f"{path}.trailing_stop.activation_price", name, tranche.trailing_stop.activation_price
    if intent.safety_stop is not None and intent.safety_stop.price is not None:
        yield "safety_stop.price", name, intent.safety_stop.price
    if intent.when is not None:
        yield "when.price", intent.when.instrument, intent.when.price


# -- everything together ---------------------------------------------------------------------------------------


def direction(side: Side) -> int:
    """+1 for sides that belong to a long position (BUY opens, SELL closes it), -1 for a short one."""
    return 1 if side in (Side.BUY, Side.SELL) else -1


@dataclass(slots=True)
class Claim:
    """What one bracket in flight holds of an account and contract."""

    bracket_id: str
    signal_id: str
    place: Place
    side: Side
    quantity: Decimal
    has_exits: bool
    is_oco: bool
    entry_filled: Decimal = ZERO
    exit_filled: Decimal = ZERO

    @property
    def direction(self) -> int:
        return direction(self.side)

    @property
    def reserved(self) -> Decimal:
        """How much of the position may still be closed by this bracket, and is free for nobody else.

        An entry that closes, and an oco: what is left of the quantity. An entry that opens: what its exits protect; a
        single entry protects nothing.
        """
        if self.is_oco:
            return max(self.quantity - self.exit_filled, ZERO)
        if not self.side.opens:
            return max(self.quantity - self.entry_filled, ZERO)
        return max(self.entry_filled - self.exit_filled, ZERO) if self.has_exits else ZERO


class Exposure:
    """Positions and claims, told fill by fill. Quantities are signed, in shares or contracts."""

    def __init__(self) -> None:
        self._own: dict[Place, Decimal] = {}
        self._outside: dict[Place, Decimal] = {}
        self._last_fill_ns: dict[Place, int] = {}
        self._pictured: set[Place] | None = None
        self._executions: dict[str, tuple[int, Decimal]] = {}
        self._claims: dict[str, Claim] = {}
        self._at: dict[Place, dict[str, Claim]] = {}
        # What `check` asks for, so that it costs the same among thousands of claims.
        self._ways: dict[tuple[Place, int], dict[str, Claim]] = {}
        self._signals: dict[tuple[Place, str], Claim] = {}

    # Positions

    def load(self, positions: Iterable[PositionChanged], exec_ids: Iterable[str]) -> None:
        """Begin from what the ledger has; see `fill` for executions that it has already counted."""
        for stored in positions:
            place = (stored.account, stored.conid)
            self._own[place] = self._own.get(place, ZERO) + stored.quantity
        for exec_id in exec_ids:
            self._executions.setdefault(exec_id, (0, ZERO))

    def fill(self, fill: OrderFilled, now_ns: int) -> None:
        """Count an execution or its correction, once."""
        signed = fill.side.sign * fill.last_qty
        known = self._executions.get(fill.exec_id)
        if known is not None and (fill.revision <= known[0] or known[0] == 0):
            return      # repeated, or counted by an earlier run of the engine
        change = signed - (known[1] if known is not None else ZERO)
        self._executions[fill.exec_id] = (fill.revision, signed)
        place = (fill.account, fill.conid)
        self._own[place] = self._own.get(place, ZERO) + change
        if not fill.recovered:
            self._last_fill_ns[place] = now_ns
        elif place in self._outside:
            self._outside[place] -= change      # the venue's picture at connect contained it
        self._count(fill, abs(fill.last_qty) - (abs(known[1]) if known is not None else ZERO))

    def seen(self, seen: PositionSeen, now_ns: int) -> None:
        """Compare the venue's own position with ours: the difference was traded elsewhere and may be closed too."""
        place = (seen.account, seen.conid)
        if self._pictured is not None:
            self._pictured.add(place)
        last = self._last_fill_ns.get(place)
        if last is None or now_ns - last >= SETTLE_NS:
            self._outside[place] = seen.quantity - self._own.get(place, ZERO)

    def picture_begins(self) -> None:
        """The venue is about to list every position of the account."""
        self._pictured = set()

    def picture_ends(self, account: str, now_ns: int) -> None:
        """What it has not listed is flat there: the rest of ours was traded elsewhere."""
        pictured, self._pictured = self._pictured, None
        if pictured is None:
            return
        for place, own in self._own.items():
            settled = now_ns - self._last_fill_ns.get(place, now_ns - SETTLE_NS) >= SETTLE_NS
            if place[0] == account and place not in pictured and settled:
                self._outside[place] = -own

    def net(self, place: Place) -> Decimal:
        """Return the netted position: our executions, and what the venue shows beside them."""
        return self._own.get(place, ZERO) + self._outside.get(place, ZERO)

    # Claims

    def claim(
        self, bracket_id: str, intent: Intent, place: Place, entry_filled: Decimal = ZERO, exit_filled: Decimal = ZERO
    ) -> Claim:
        """Set aside what a bracket may hold or close, until `release`."""
        claim = Claim(
            bracket_id, intent.signal_id, place, intent.side, intent.quantity, bool(intent.exits),
            intent.shape is Shape.OCO, entry_filled, exit_filled,
        )
        self.release(bracket_id)
        self._claims[bracket_id] = claim
        self._at.setdefault(place, {})[bracket_id] = claim
        self._ways.setdefault((place, claim.direction), {})[bracket_id] = claim
        self._signals[place, claim.signal_id] = claim
        return claim

    def claims(self) -> Iterable[str]:
        """Return the brackets that hold a claim."""
        return self._claims.keys()

    def claimed(self, bracket_id: str) -> Claim | None:
        return self._claims.get(bracket_id)

    def release(self, bracket_id: str) -> bool:
        """Forget a bracket that is over; False for one without a claim."""
        claim = self._claims.pop(bracket_id, None)
        if claim is None:
            return False
        self._at[claim.place].pop(bracket_id)
        self._ways[claim.place, claim.direction].pop(bracket_id)
        if not self._at[claim.place]:
            del self._at[claim.place]
        if self._signals.get((claim.place, claim.signal_id)) is claim:
            del self._signals[claim.place, claim.signal_id]
        return True

    def _count(self, fill: OrderFilled, change: Decimal) -> None:
        claim = self._claims.get(fill.bracket_id)
        if claim is not None and fill.role is Role.ENTRY:
            claim.entry_filled += change
        elif claim is not None and fill.role is Role.EXIT:
            claim.exit_filled += change

    def check(self, intent: Intent, place: Place) -> None:
        """Refuse a second direction, a signal in flight, and closing more than is there and free. Raises Refused."""
        wanted, net = direction(intent.side), self.net(place)
        claims = self._at.get(place, {})
        same = self._signals.get((place, intent.signal_id))
        if same is not None:
            raise Refused("duplicate", "signal_id", f"'{intent.signal_id}'", "a signal becomes one bracket",
                          f"is in flight as bracket {same.bracket_id}")
        other = next(iter(self._ways.get((place, -wanted), {}).values()), None)
        if other is not None:
            raise Refused("netting", "side", f"'{intent.side}'", "the venue nets: one direction per account and"
                          " contract; wait for its end or cancel it", f"is opposite to {other.side} of bracket"
                          f" {other.bracket_id} in {intent.instrument}")
        if net * wanted < 0:
            instead = {Side.BUY: "BUY_TO_COVER closes it", Side.SELL_SHORT: "SELL closes it",
                       Side.SELL: "SELL_SHORT adds to it", Side.BUY_TO_COVER: "BUY adds to it"}[intent.side]
            raise Refused("netting", "side", f"'{intent.side}'", f"the venue nets: {instead}",
                          f"is opposite to the position {plain(net)} in {intent.instrument}")
        if not intent.side.opens:
            self._check_free(intent, abs(net), claims)

    @staticmethod
    def _check_free(intent: Intent, held: Decimal, claims: Mapping[str, Claim]) -> None:
        reserved = sum((other.reserved for other in claims.values()), ZERO)
        free = max(held - reserved, ZERO)
        if intent.quantity > free:
            more = "SELL_SHORT" if intent.side is Side.SELL else "BUY"
            said = f"exceeds what is free to close: position {plain(held)}"
            if reserved:
                said += f", of which {plain(reserved)} is claimed by {_names(claims)}"
            raise Refused("exceeds_position", "quantity", plain(intent.quantity),
                          f"a {intent.side} closes at most {plain(free)} here; {more} opens a position", said)

    def facts(self) -> dict[str, object]:
        """Return claims and net positions as plain data."""
        places = sorted({*self._own, *self._outside})
        return {
            "claims": [
                {"bracket_id": claim.bracket_id, "account": claim.place[0], "conid": claim.place[1],
                 "side": str(claim.side), "reserved": str(claim.reserved)}
                for claim in self._claims.values()
            ],
            "net": [{"account": place[0], "conid": place[1], "quantity": str(self.net(place))} for place in places],
        }


def _names(claims: Mapping[str, Claim]) -> str:
    holders = sorted(claim.bracket_id for claim in claims.values() if claim.reserved)
    return ", ".join(holders[:3]) + (f" and {len(holders) - 3} more" if len(holders) > 3 else "")
