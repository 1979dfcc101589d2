"""placeOrder frames of our own: one order in one write, without the library's object and its 120 conversions.

Law: every field that we do not set is the library's own default, taken from one frame that the library itself encoded
at this server version; so our frame equals the library's field for field, and dies with the session that made it.
"""

from __future__ import annotations

from decimal import Decimal
from struct import pack

from actors.venue.port import OrderTicket
from messages.intent import OrderType
from messages.orders import Contract

MAX_ORDER_ID = 2**31 - 2
"""2^31-1 itself is how IB writes "no integer"; the libraries would send it as an empty field."""

MOST_KEPT = 1_000
"""Endings that are kept for the next order: there is one for each good-till time."""

# Positions in a placeOrder frame of a contract without legs (ib-wire.md 4.1).
ACCOUNT, ORDER_REF, OUTSIDE_RTH, GOOD_TILL, OCA_TYPE = 23, 26, 33, 38, 47


def number(value: Decimal) -> str:
    """Write a Decimal as IB reads it: exact, plain, without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def contract_fields(contract: Contract) -> list[str]:
    """The identity block C12. The conid and the exchange say it all; the rest is empty, as IB advises."""
    return [str(contract.conid), contract.symbol, contract.sec_type, "", "0.0", "",
            "" if contract.multiplier == 1 else number(contract.multiplier), contract.exchange,
            contract.primary_exchange, contract.currency, contract.local_symbol, contract.trading_class]


class Template:
    """One order, encoded but for its venue id, quantity and prices. Firing it is stamping four fields.

    All but the reference is shared with other orders: thousands of these are kept, one for each exit that is armed.
    """

    __slots__ = ("_after_id", "_after_ref", "_before_ref", "_middle", "_ref", "encoder")

    def __init__(self, encoder: OrderEncoder, after_id: str, middle: str, before_ref: str, ref: str,
                 after_ref: str) -> None:
        self.encoder = encoder
        self._after_id, self._middle = after_id, middle
        self._before_ref, self._ref, self._after_ref = before_ref, ref, after_ref

    def stamp(self, venue_order_id: int, quantity: Decimal, limit_price: Decimal | None,
              stop_price: Decimal | None) -> bytes:
        """Return the whole frame, length prefix included. Raises ValueError for an id above 2^31-2 or below 1."""
        if not 0 < venue_order_id <= MAX_ORDER_ID:
            raise ValueError(f"venue order id {venue_order_id} is outside 1..{MAX_ORDER_ID}")
        limit = "" if limit_price is None else number(limit_price)
        stop = "" if stop_price is None else number(stop_price)
        body = (f"3\0{venue_order_id}{self._after_id}{number(quantity)}{self._middle}{limit}\0{stop}"
                f"{self._before_ref}{self._ref}{self._after_ref}").encode()
        return pack(">I", len(body)) + body


class OrderEncoder:
    """Turns tickets into frames at one server version, from the fields of one plain order of the library's."""

    def __init__(self, sample: list[str], version: int) -> None:
        """`sample`: the fields of a placeOrder that the library made from a default order without prices."""
        oca_type = OCA_TYPE if version < 177 else OCA_TYPE - 1  # faProfile is gone from 177 on
        self._heads: dict[tuple[int, str, str], str] = {}
        self._middles = {kind: f"\0{kind.value}\0" for kind in OrderType}
        self._befores: dict[tuple[str, str], str] = {}
        self._afters: dict[tuple[bool, str | None, bool], str] = {}
        self._tails: dict[bool, str] = {}
        for grouped in (False, True):
            fields = list(sample[GOOD_TILL + 1:])
            if grouped:
                fields[oca_type - GOOD_TILL - 1] = "2"
            self._tails[grouped] = "\0" + "\0".join(fields) + "\0"
        self._before_ref = "\0".join(sample[ACCOUNT + 1:ORDER_REF])
        self._after_ref = "\0".join(sample[ORDER_REF + 1:OUTSIDE_RTH])
        self._after_rth = "\0".join(sample[OUTSIDE_RTH + 1:GOOD_TILL])

    def prepare(self, ticket: OrderTicket) -> Template:
        """Encode all of a ticket that is known before it fires."""
        contract, side = ticket.contract, ticket.side.venue_side.value
        key = (contract.conid, contract.exchange, side)
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = "\0" + "\0".join([*contract_fields(contract), "", "", side, ""])
        group, time_in_force = ticket.oca_group, ticket.time_in_force.value
        if group:
            before = self._before(time_in_force, group, ticket.account)
        else:
            place = (time_in_force, ticket.account)
            before = self._befores.get(place) or self._befores.setdefault(place, self._before(place[0], "", place[1]))
        rest = (ticket.outside_rth, ticket.good_till, bool(group))
        after = self._afters.get(rest)
        if after is None:
            after = (f"\0{self._after_ref}\0{'1' if rest[0] else '0'}\0{self._after_rth}\0{rest[1] or ''}"
                     f"{self._tails[rest[2]]}")
            if len(self._afters) < MOST_KEPT:
                self._afters[rest] = after
        return Template(self, head, self._middles[ticket.order_type], before, ticket.order_ref, after)

    def _before(self, time_in_force: str, group: str, account: str) -> str:
        return f"\0{time_in_force}\0{group}\0{account}\0{self._before_ref}\0"

    def encode(self, venue_order_id: int, ticket: OrderTicket) -> bytes:
        return self.prepare(ticket).stamp(venue_order_id, ticket.quantity, ticket.limit_price, ticket.stop_price)
