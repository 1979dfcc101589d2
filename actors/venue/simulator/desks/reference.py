"""The reference desk: contracts, market rules, the time, the user (ib-wire.md 4 and 5.2).

Law: nothing here changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.venue.simulator import responses
from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.requests import Request
from actors.venue.simulator.wire import encode

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

NS = 1_000_000_000


def current_time(session: Session, request: Request, now_ns: int) -> None:
    session.send_tick(encode(49, 1, session.gateway.exchange_ns(now_ns) // NS))
    session.gateway.acknowledge(session)


def contract_details(session: Session, request: Request, now_ns: int) -> None:
    gateway, query = session.gateway, request.contract or ContractQuery()
    if query.sec_type == "BAG":
        session.error(request.req_id, 321, "Error validating request.-'bS' : cause - BAG isn't supported for contract "
                                           "data request", now_ns)
        return
    found = gateway.contracts.find(query)
    if not found:
        session.error(request.req_id, 200, "No security definition has been found for the request", now_ns)
        return
    for contract in found:
        data = responses.contract_details(contract, request.req_id, session.version, gateway.exchange_ns(now_ns),
                                          gateway.always_open)
        session.send("contractDetails", data, now_ns, reqId=request.req_id, conId=contract.con_id,
                     symbol=contract.symbol)
    session.send("contractDetailsEnd", encode(52, 1, request.req_id), now_ns, reqId=request.req_id)


def market_rule(session: Session, request: Request, now_ns: int) -> None:
    steps = session.gateway.contracts.rules.get(request.req_id)
    if steps is None:
        session.error(-1, 321, f"Error validating request.-'bO' : cause - Invalid market rule id {request.req_id}",
                      now_ns)
        return
    session.send("marketRule", responses.market_rule(request.req_id, steps), now_ns, ruleId=request.req_id)


def user_info(session: Session, request: Request, now_ns: int) -> None:
    session.send("userInfo", encode(107, request.req_id, ""), now_ns, reqId=request.req_id)


HANDLERS = {
    "reqCurrentTime": current_time,
    "reqContractDetails": contract_details,
    "reqMarketRule": market_rule,
    "reqUserInfo": user_info,
}
