"""The reference desk: contracts, market rules, the time, the user (ib-wire.md 4 and 5.2).

Law: nothing here changes anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from actors.venue.simulator import chains, responses
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
    """Answer every contract that the query fits, or 200; an ISIN or CUSIP goes before the rest of the query."""
    gateway, query = session.gateway, request.contract or ContractQuery()
    if query.sec_type == "BAG":
        session.error(request.req_id, 321, "Error validating request.-'bS' : cause - BAG isn't supported for contract "
                                           "data request", now_ns)
        return
    if str(request.values.get("issuerId", "")):
        session.error(request.req_id, 321, "Error validating request.-'bS' : cause - no issuer ids are known here: ask "
                                           "by symbol, conId, ISIN or CUSIP", now_ns)
        return
    sec_id = str(request.values.get("secId", ""))
    if sec_id and not query.con_id:
        found = gateway.contracts.with_sec_id(str(request.values["secIdType"]), sec_id)
    else:
        found = gateway.contracts.find(query, bool(request.values.get("expired")))
    if not found:
        session.error(request.req_id, 200, "No security definition has been found for the request", now_ns)
        return
    ex_ns = gateway.exchange_ns(now_ns)
    for contract in found:
        under = gateway.contracts.by_id.get(contract.under_con_id)
        data = responses.contract_details(
            contract, request.req_id, session.version, ex_ns, gateway.always_open, query.exchange,
            under.symbol if under else "", sec_ids=True, kept=gateway.hours)
        session.send("contractDetails", data, now_ns, reqId=request.req_id, conId=contract.con_id,
                     symbol=contract.symbol)
    session.send("contractDetailsEnd", encode(52, 1, request.req_id), now_ns, reqId=request.req_id)


def option_parameters(session: Session, request: Request, now_ns: int) -> None:
    """Answer one 75 for each exchange that lists options on a stock, then 76; none for what has no options."""
    contracts, values = session.gateway.contracts, request.values
    under = contracts.get(int(con_id)) if re.fullmatch("[0-9]{1,10}", con_id := str(values["conId"])) else None
    if under is None or under.symbol != values["symbol"] or under.sec_type != values["secType"]:
        session.error(request.req_id, 321, "Error validating request.-'bK' : cause - symbol, type and conId of the "
                                           "underlying must be those of one contract", now_ns)
        return
    if values["exchange"]:
        session.error(request.req_id, 321, "Error validating request.-'bK' : cause - no options on futures are listed: "
                                           "leave futFopExchange empty", now_ns)
        return
    if "OPT" in contracts.derivatives(under):
        expiries = [f"{e:%Y%m%d}" for e in chains.option_expiries(contracts.today)]
        strikes = chains.strikes(under.reference_price)
        for exchange in chains.OPTION_EXCHANGES.split(","):
            data = responses.option_parameters(request.req_id, exchange, under, under.symbol, "100", expiries, strikes)
            session.send("securityDefinitionOptionParameter", data, now_ns, reqId=request.req_id, exchange=exchange)
    session.send("securityDefinitionOptionParameterEnd", encode(76, request.req_id), now_ns, reqId=request.req_id)


def matching_symbols(session: Session, request: Request, now_ns: int) -> None:
    contracts = session.gateway.contracts
    found = [(c, contracts.derivatives(c)) for c in contracts.resembling(str(request.values["pattern"]))]
    session.send("symbolSamples", responses.symbol_samples(request.req_id, found, session.version), now_ns,
                 reqId=request.req_id, found=len(found))


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
    "reqSecDefOptParams": option_parameters,
    "reqMatchingSymbols": matching_symbols,
    "reqMarketRule": market_rule,
    "reqUserInfo": user_info,
}
