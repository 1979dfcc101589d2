"""What many traders run: twenty lines of ib_insync that watch ticks and place an order.

Run by bench_wire: python -m tests.benchmarks.wire_script PORT FIRST STEP COUNT. Stops are FIRST, FIRST-STEP, ...
"""

import sys

from ib_insync import IB, Contract, MarketOrder

port, level, step, count = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
ib = IB()
ib.connect("127.0.0.1", port, clientId=1)
stock = Contract(secType="STK", conId=265598, symbol="AAPL", exchange="SMART", currency="USD")
stops = [round(level - step * number, 2) for number in range(count)]


def on_ticks(tickers):
    for ticker in tickers:
        for tick in ticker.tickByTicks:
            while stops and tick.price <= stops[0]:
                stops.pop(0)
                ib.placeOrder(stock, MarketOrder("SELL", 100, orderRef=f"script-{len(stops)}"))


ib.pendingTickersEvent += on_ticks
ib.reqTickByTickData(stock, "AllLast")
ib.run()
