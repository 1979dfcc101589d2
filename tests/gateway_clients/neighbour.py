"""A neighbour at the gateway: client 9 places the largest order that the protocol knows, for the others to decode.

Law: it speaks the wire itself, with ib_async's encoder and no other part of a library, and is gone before a client
dials. A combination with six conditions, an algorithm, scale levels and a hedge (ib-wire.md 15.3).
"""

from __future__ import annotations

import socket
from typing import Any

import ib_async

from actors.venue.simulator.wire import FrameBuffer, encode, frame, split
from tests.venue.library_client import written_by

LOOPBACK = "127.0.0.1"
CLIENT_ID = 9
REF = "n.rich"
DEADLINE_S = 10.0
OPEN_ORDER, ERROR = "5", "4"


def rich_order() -> tuple[Any, Any]:
    """Return contract and order; its conditions are such that it waits for ever."""
    legs = [ib_async.ComboLeg(conId=756733, ratio=1, action="BUY", exchange="SMART"),
            ib_async.ComboLeg(conId=272093, ratio=2, action="SELL", exchange="SMART")]
    contract = ib_async.Contract(secType="BAG", symbol="SPY", exchange="SMART", currency="USD", comboLegs=legs)
    about = {"conId": 756733, "exch": "SMART"}
    order = ib_async.Order(
        orderId=1, action="BUY", totalQuantity=3, orderType="LMT", lmtPrice=-31.5, tif="GTC", orderRef=REF,
        algoStrategy="Adaptive", algoParams=[ib_async.TagValue("adaptivePriority", "Normal")], hedgeType="P",
        hedgeParam="2", scaleInitLevelSize=10, scalePriceIncrement=0.05,
        smartComboRoutingParams=[ib_async.TagValue("NonGuaranteed", "1")],
        conditions=[
            ib_async.PriceCondition(price=150.0, **about), ib_async.TimeCondition(time="20990101-00:00:00"),
            ib_async.MarginCondition(percent=3), ib_async.VolumeCondition(volume=5, **about),
            ib_async.ExecutionCondition(secType="STK", exch="SMART", symbol="SPY"),
            ib_async.PercentChangeCondition(changePercent=2.5, **about)])
    return contract, order


def leave_rich_order(port: int, server_version: int) -> str:
    """Place the order and hang up once the gateway shows it; return what went wrong, or nothing."""
    buffer = FrameBuffer()
    with socket.create_connection((LOOPBACK, port), DEADLINE_S) as sock:
        sock.sendall(b"API\0" + frame(f"v157..{server_version}".encode()) + encode(71, 2, CLIENT_ID, "")
                     + encode(*written_by(ib_async, server_version, *rich_order())))
        while data := sock.recv(65536):
            buffer.feed(data)
            for payload in buffer.payloads():
                fields = split(payload)
                if fields[0] == OPEN_ORDER:
                    return ""
                if fields[0] == ERROR and fields[2] != "-1":
                    return f"the neighbour's order was refused: {fields[3]} {fields[4]}"
    return "the gateway hung up on the neighbour"
