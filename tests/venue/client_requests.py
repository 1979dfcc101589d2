"""Every request that a client library can write, as its own encoder writes it: one row for each, by API name.

A row is the library's method and the strategies of its arguments, in order. `captured` calls it and returns the fields.

Law: texts never hold a NUL, and numbers are such as the libraries spell exactly.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from hypothesis import strategies as st

NOT_ASKED = ("placeOrder",)      # too large for a row: tests of its own
ids = st.integers(1, 2**31 - 2)
words = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F), min_size=1, max_size=9)
flags = st.booleans()
small = st.integers(1, 1000)
times = st.sampled_from(["20260105 09:30:00 US/Eastern", "20260105-14:30:00", ""])
CONTRACT = st.fixed_dictionaries({
    "conId": ids, "symbol": words, "secType": st.sampled_from(["STK", "OPT", "FUT", "CASH", "IND"]),
    "lastTradeDateOrContractMonth": st.sampled_from(["", "20260320", "202603"]),
    "strike": st.integers(0, 10**6).map(lambda n: n / 8), "right": st.sampled_from(["", "C", "P"]),
    "multiplier": st.sampled_from(["", "100", "50"]), "exchange": words, "primaryExchange": words, "currency": words,
    "localSymbol": words, "tradingClass": words, "includeExpired": flags})
FILTER = st.fixed_dictionaries({
    "clientId": ids, "acctCode": words, "time": times, "symbol": words, "secType": words, "exchange": words,
    "side": st.sampled_from(["BUY", "SELL", ""])})

ROWS: dict[str, tuple[str, dict[str, st.SearchStrategy[Any]]]] = {
    "reqMktData": ("reqMktData", {"reqId": ids, "contract": CONTRACT, "generic": words, "snapshot": flags,
                                  "regulatory": flags, "options": st.just([])}),
    "cancelMktData": ("cancelMktData", {"reqId": ids}),
    "cancelOrder": ("cancelOrder", {"orderId": ids, "manualTime": st.just("")}),
    "reqOpenOrders": ("reqOpenOrders", {}),
    "reqAccountUpdates": ("reqAccountUpdates", {"subscribe": flags, "account": words}),
    "reqExecutions": ("reqExecutions", {"reqId": ids, "filter": FILTER}),
    "reqIds": ("reqIds", {"n": ids}),
    "reqContractDetails": ("reqContractDetails", {"reqId": ids, "contract": CONTRACT}),
    "reqMktDepth": ("reqMktDepth", {"reqId": ids, "contract": CONTRACT, "rows": small, "isSmart": flags,
                                    "options": st.just([])}),
    "cancelMktDepth": ("cancelMktDepth", {"reqId": ids, "isSmart": flags}),
    "setServerLogLevel": ("setServerLogLevel", {"level": small}),
    "reqAutoOpenOrders": ("reqAutoOpenOrders", {"bind": flags}),
    "reqAllOpenOrders": ("reqAllOpenOrders", {}),
    "reqManagedAccts": ("reqManagedAccts", {}),
    "reqHistoricalData": ("reqHistoricalData", {
        "reqId": ids, "contract": CONTRACT, "end": times, "duration": st.sampled_from(["1 D", "3600 S"]),
        "barSize": st.sampled_from(["1 min", "1 day"]), "what": st.sampled_from(["TRADES", "MIDPOINT"]),
        "useRTH": flags, "formatDate": st.sampled_from([1, 2]), "keepUpToDate": flags, "options": st.just([])}),
    "cancelHistoricalData": ("cancelHistoricalData", {"reqId": ids}),
    "reqCurrentTime": ("reqCurrentTime", {}),
    "reqRealTimeBars": ("reqRealTimeBars", {
        "reqId": ids, "contract": CONTRACT, "barSize": st.just(5), "what": st.sampled_from(["TRADES", "BID"]),
        "useRTH": flags, "options": st.just([])}),
    "cancelRealTimeBars": ("cancelRealTimeBars", {"reqId": ids}),
    "reqGlobalCancel": ("reqGlobalCancel", {}),
    "reqMarketDataType": ("reqMarketDataType", {"kind": st.integers(1, 4)}),
    "reqPositions": ("reqPositions", {}),
    "cancelPositions": ("cancelPositions", {}),
    "reqAccountSummary": ("reqAccountSummary", {"reqId": ids, "group": words, "tags": words}),
    "cancelAccountSummary": ("cancelAccountSummary", {"reqId": ids}),
    "startApi": ("startApi", {}),
    "reqPositionsMulti": ("reqPositionsMulti", {"reqId": ids, "account": words, "model": words}),
    "cancelPositionsMulti": ("cancelPositionsMulti", {"reqId": ids}),
    "reqAccountUpdatesMulti": ("reqAccountUpdatesMulti", {"reqId": ids, "account": words, "model": words,
                                                          "ledger": flags}),
    "cancelAccountUpdatesMulti": ("cancelAccountUpdatesMulti", {"reqId": ids}),
    "reqSecDefOptParams": ("reqSecDefOptParams", {"reqId": ids, "symbol": words, "exchange": words, "secType": words,
                                                  "conId": ids}),
    "reqMatchingSymbols": ("reqMatchingSymbols", {"reqId": ids, "pattern": words}),
    "reqMktDepthExchanges": ("reqMktDepthExchanges", {}),
    "reqSmartComponents": ("reqSmartComponents", {"reqId": ids, "bboExchange": words}),
    "reqHeadTimestamp": ("reqHeadTimeStamp", {
        "reqId": ids, "contract": CONTRACT, "what": st.sampled_from(["TRADES", "BID"]), "useRTH": flags,
        "formatDate": st.sampled_from([1, 2])}),
    "cancelHeadTimestamp": ("cancelHeadTimeStamp", {"reqId": ids}),
    "reqMarketRule": ("reqMarketRule", {"ruleId": ids}),
    "reqPnL": ("reqPnL", {"reqId": ids, "account": words, "model": words}),
    "cancelPnL": ("cancelPnL", {"reqId": ids}),
    "reqPnLSingle": ("reqPnLSingle", {"reqId": ids, "account": words, "model": words, "conId": ids}),
    "cancelPnLSingle": ("cancelPnLSingle", {"reqId": ids}),
    "reqHistoricalTicks": ("reqHistoricalTicks", {
        "reqId": ids, "contract": CONTRACT, "start": times, "end": times, "n": small,
        "what": st.sampled_from(["TRADES", "BID_ASK"]), "useRTH": flags, "ignoreSize": flags, "options": st.just([])}),
    "reqTickByTickData": ("reqTickByTickData", {
        "reqId": ids, "contract": CONTRACT, "kind": st.sampled_from(["Last", "AllLast", "BidAsk", "MidPoint"]),
        "n": small, "ignoreSize": flags}),
    "cancelTickByTickData": ("cancelTickByTickData", {"reqId": ids}),
    "reqCompletedOrders": ("reqCompletedOrders", {"apiOnly": flags}),
    "reqUserInfo": ("reqUserInfo", {"reqId": ids}),
}


def captured(library: ModuleType, version: int, name: str, arguments: dict[str, Any]) -> list[str]:
    """Return the fields of one request exactly as the library writes them for this server version."""
    client = library.Client(library.wrapper.Wrapper(None))
    client._serverVersion, client.clientId = version, 7
    client.isConnected = lambda: True
    written: list[str] = []
    client.sendMsg = written.append
    values = []
    for key in ROWS[name][1]:
        value = arguments[key]
        if key == "contract":
            values.append(library.Contract(**value))
        elif key == "filter":
            values.append(library.ExecutionFilter(**value))
        else:
            values.append(value)
    getattr(client, ROWS[name][0])(*values)
    return written[0].split("\0")[:-1]
