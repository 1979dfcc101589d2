"""Requests, round: what the libraries' encoders write, our decoder reads whole, every argument of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import ib_async
import ib_insync
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.requests import DECODERS, Request
from actors.venue.simulator.wire import Fields, number
from tests.venue.client_requests import CONTRACT, NOT_ASKED, ROWS, captured

pytestmark = pytest.mark.unit
SPOKEN = [(ib_insync, 157), (ib_insync, 176), (ib_async, 157), (ib_async, 176), (ib_async, 178)]
BY_NAME = dict(DECODERS.values())
NOT_READ: dict[str, set[str]] = {}
"""Arguments that cannot change an answer of this gateway, by request: the layout is read past them. There are none."""
CONTRACT_FIELDS = {
    "conId": "con_id", "symbol": "symbol", "secType": "sec_type", "lastTradeDateOrContractMonth": "expiry",
    "strike": "strike", "right": "right", "multiplier": "multiplier", "exchange": "exchange",
    "primaryExchange": "primary_exchange", "currency": "currency", "localSymbol": "local_symbol",
    "tradingClass": "trading_class"}


def read(library, version: int, name: str, arguments: dict[str, Any]) -> Request:
    fields = captured(library, version, name, arguments)
    reader = Fields(name, fields, 1)
    found = BY_NAME[name](reader, version)
    assert isinstance(found, Request)
    assert found.name == name
    assert reader.left == 0 or name in NOT_READ, f"{reader.left} fields of {fields} are not read"
    return found


def spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return number(Decimal(repr(value)))
    return number(value) if isinstance(value, Decimal) else str(value)


def everything(value: Any) -> list[str]:
    """Return all that a decoded request holds, spelled."""
    if isinstance(value, msgspec.Struct):
        return [s for field in value.__struct_fields__ for s in everything(getattr(value, field))]
    if isinstance(value, dict):
        return [s for each in value.values() for s in everything(each)]
    if isinstance(value, list | tuple):
        return [s for each in value for s in everything(each)]
    return [spelled(value)]


def test_every_request_that_is_decoded_has_a_row_here():
    assert BY_NAME.keys() <= ROWS.keys() | set(NOT_ASKED)
    assert NOT_READ.keys() <= BY_NAME.keys()


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - set(NOT_ASKED)))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_a_library_asks_is_read_back(name, data):
    library, version = data.draw(st.sampled_from(SPOKEN))
    arguments = data.draw(st.fixed_dictionaries(ROWS[name][1]))
    found = read(library, version, name, arguments)
    contract = arguments.get("contract")
    if contract is not None:
        assert found.contract is not None
        assert {ours: getattr(found.contract, ours) for ours in CONTRACT_FIELDS.values()} == {
            ours: Decimal(repr(contract[theirs])) if theirs == "strike" else contract[theirs]
            for theirs, ours in CONTRACT_FIELDS.items()}
    if "reqId" in arguments or "orderId" in arguments:
        assert found.req_id == arguments.get("reqId", arguments.get("orderId"))
    elif name == "startApi":
        assert found.values["clientId"] == "7"
    held = everything(found)
    told = {**arguments, **arguments.get("filter", {})}
    for key, value in told.items():
        if key not in ("contract", "filter", "options") and key not in NOT_READ.get(name, ()):
            assert spelled(value) in held, f"{key} {value!r} is nowhere in {found}"


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - set(NOT_ASKED)))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_every_flag_makes_a_difference(name, data):
    library, version = data.draw(st.sampled_from(SPOKEN))
    arguments = data.draw(st.fixed_dictionaries(ROWS[name][1]))
    before = read(library, version, name, arguments)
    for key, value in arguments.items():
        if isinstance(value, bool) and key not in NOT_READ.get(name, ()):
            assert read(library, version, name, {**arguments, key: not value}) != before, key


@settings(max_examples=50, deadline=None)
@given(contract=CONTRACT, legs=st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 9)), max_size=4),
       delta=st.booleans(), spoken=st.sampled_from(SPOKEN))
def test_market_data_of_combinations_and_delta_neutral_contracts_is_read_to_its_end(contract, legs, delta, spoken):
    library, version = spoken
    made = {**contract, "secType": "BAG",
            "comboLegs": [library.ComboLeg(conId=c, ratio=r, action="BUY", exchange="SMART") for c, r in legs]}
    if delta:
        made["deltaNeutralContract"] = library.DeltaNeutralContract(conId=9, delta=0.5, price=3.25)
    fields = captured(library, version, "reqMktData", {
        "reqId": 5, "contract": made, "generic": "233", "snapshot": True, "regulatory": False, "options": []})
    reader = Fields("reqMktData", fields, 1)
    found = BY_NAME["reqMktData"](reader, version)
    assert (found.values["snapshot"], found.values["generic"]) == (True, "233")
    assert [(leg.con_id, leg.ratio) for leg in found.values["legs"]] == legs
    assert found.values.get("deltaNeutral") == (["9", "0.5", "3.25"] if delta else None)
    assert found.contract.symbol == contract["symbol"]
