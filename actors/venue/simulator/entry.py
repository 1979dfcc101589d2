"""From a decoded placeOrder to the exchange: the checks that a gateway makes before the venue sees an order.

Law: an instruction that is not simulated is refused by name, never ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.venue.simulator import answers
from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.orders import Order
from actors.venue.simulator.requests import PlaceOrder

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

MAX_ORDER_ID = 2**31 - 1
INVALID = "Error validating request.-'bN' : cause - "


def place(session: Session, p: PlaceOrder, now_ns: int) -> None:
    """Journal the request, refuse what cannot be understood, and hand the rest to the exchange."""
    gateway = session.gateway
    known = gateway.exchange.orders.get((session.client_id, p.order_id))
    amends = known is not None and known.transmit and bool(known.perm_id)
    fields = answers.order_fields(p)
    if known is not None and known.perm_id:
        fields["permId"] = known.perm_id
    gateway.log(now_ns, "in", session.client_id, "modifyOrder" if amends else "placeOrder", fields)
    found = gateway.contracts.find(p.contract)
    refusal = _refusal(p, len(found), gateway.settings.accounts)
    if refusal is not None:
        session.error(p.order_id, *refusal, now_ns)
        return
    order = _order(session.client_id, p, found[0], p.account or gateway.settings.accounts[0])
    gateway.deliver(gateway.exchange.place(order, gateway.exchange_ns(now_ns)), now_ns)


def _refusal(p: PlaceOrder, contracts: int, accounts: tuple[str, ...]) -> tuple[int, str] | None:
    if not 0 < p.order_id <= MAX_ORDER_ID:
        return 320, f"Error reading request. orderId {p.order_id}: allowed is 1 to {MAX_ORDER_ID}"
    if p.legs or p.contract.sec_type == "BAG":
        return 321, INVALID + "Combination orders are not simulated"
    if p.unsupported:
        return 321, INVALID + f"not simulated: {', '.join(p.unsupported)}"
    if contracts != 1:
        return 200, no_contract(contracts)
    if not p.account and len(accounts) > 1:
        return 435, "You must specify an account."
    if p.account and p.account not in accounts:
        return 321, INVALID + f"Invalid account code '{p.account}'."
    return None


def _order(client_id: int, p: PlaceOrder, contract: Contract, account: str) -> Order:
    extras = {**p.extras, "exchange": p.contract.exchange} if p.contract.exchange else p.extras
    trails = p.order_type.startswith("TRAIL")
    return Order(
        client_id=client_id, order_id=p.order_id, contract=contract, action=p.action, total=p.quantity,
        order_type=p.order_type, account=account, lmt=p.lmt, aux=p.aux, tif=p.tif, oca_group=p.oca_group,
        oca_type=p.oca_type or 3, order_ref=p.order_ref, parent_id=p.parent_id, transmit=p.transmit,
        outside_rth=p.outside_rth, trigger_method=p.trigger_method, good_till_date=p.good_till_date,
        trail_stop=p.trail_stop if trails else None, trail_percent=p.trail_percent if trails else None,
        lmt_offset=p.lmt_offset if trails else None, what_if=p.what_if, all_or_none=p.all_or_none, extras=extras)


def no_contract(found: int) -> str:
    """Return IB's text for a contract that fits nothing, or too much."""
    if found:
        return "The contract description specified is ambiguous."
    return "No security definition has been found for the request"
