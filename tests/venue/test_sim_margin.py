"""Margins: the model's arithmetic, what-if answers on the wire, and orders that an account cannot carry."""

from __future__ import annotations

from decimal import Decimal as D

import ib_async
import ib_insync
import pytest

from actors.venue.simulator.contracts import BUILT_IN, Contract
from actors.venue.simulator.margin import Holding, cushion_percent, equity_with_loan, requirement
from actors.venue.simulator.orders import ExchangeRules
from tests.venue.gateway_fixture import RawClient, Venue, frame, memory_gateway
from tests.venue.test_sim_combos import C100, VERTICAL, combo_of, market
from tests.venue.test_sim_order_echo import told
from tests.venue.test_sim_session import ids, place

pytestmark = pytest.mark.unit
AAPL = BUILT_IN[0]
PUT90 = Contract(con_id=21, symbol="AAPL", sec_type="OPT", strike=D(90), right="P", multiplier="100")
CALL120 = Contract(con_id=22, symbol="AAPL", sec_type="OPT", strike=D(120), right="C", multiplier="100")


def held(contract: Contract, quantity: int, price: object, underlying: int = 100) -> Holding:
    return Holding(contract=contract, quantity=D(quantity), price=D(str(price)), underlying=D(underlying))


@pytest.mark.parametrize(("holding", "initial", "maintenance"), [
    (held(AAPL, 100, 100), 5000, 2500), (held(AAPL, -100, 100), 5000, 3000),
    (held(C100, 3, 5), 0, 0),
    (held(C100, -1, 5), 2500, 2500),           # at the money: 500 + 20 % of 10,000
    (held(PUT90, -2, 1), 2200, 2200),          # (1 + max(20 - 10, 10 % of the strike)) x 200
    (held(CALL120, -1, "0.5"), 1050, 1050)])   # (0.5 + max(20 - 20, 10 % of the underlying)) x 100
def test_what_one_holding_requires(holding, initial, maintenance):
    need = requirement([holding])
    assert (need.initial, need.maintenance) == (initial, maintenance)


def test_equity_with_loan_leaves_options_out_and_the_cushion_counts_them():
    both = [held(AAPL, 100, 100), held(C100, 3, 5)]
    assert equity_with_loan(D(1000), both) == 11_000
    assert cushion_percent(D(1000), both) == D(8500) * 100 / D(12_500)
    assert cushion_percent(D(-20_000), both) == 0


def margins(state: object) -> dict[str, float]:
    return {f"{name}{when}": float(getattr(state, f"{name}{when}"))
            for name in ("initMargin", "maintMargin", "equityWithLoan") for when in ("Before", "Change", "After")}


@pytest.mark.parametrize(("library", "version"), [(ib_insync, 157), (ib_insync, 176), (ib_async, 178)])
def test_a_what_if_is_answered_with_margins_and_commission_and_nothing_else(library, version):
    gateway = memory_gateway(positions=("AAPL=100@100",), server_version=178)
    client = RawClient(gateway, start=False)
    client.raw(b"API\0" + frame(f"v157..{version}".encode()))
    client.send(71, 2, 1, "")
    order = library.LimitOrder("SELL", 300, 99.0, orderId=5, whatIf=True)
    written = library.Client(library.wrapper.Wrapper(None))
    written._serverVersion, written.isConnected = version, lambda: True
    sent: list[str] = []
    written.sendMsg = sent.append
    written.placeOrder(5, library.Stock("AAPL", "SMART", "USD"), order)
    answer = client.raw(frame(sent[0].encode()))
    assert ids(answer) == ["5"]
    data = frame("".join(f"{field}\0" for field in answer[0]).encode())
    _, shown, state = told(library, version, data)
    assert (shown.permId, shown.whatIf, state.status) == (0, True, "PreSubmitted")
    # Long 100 becomes short 200, both at 100; the commission is 300 x 0.005.
    assert margins(state) == {
        "initMarginBefore": 5000, "initMarginChange": 5000, "initMarginAfter": 10_000, "maintMarginBefore": 2500,
        "maintMarginChange": 3500, "maintMarginAfter": 6000, "equityWithLoanBefore": 1_010_000,
        "equityWithLoanChange": -1.5, "equityWithLoanAfter": 1_009_998.5}
    assert (state.commission, state.commissionCurrency) == (1.5, "USD")
    assert not gateway.exchange.orders
    assert not gateway.exchange.done
    assert client.send(8, 1, 1) == [["9", "1", "1"]]


def test_a_what_if_of_a_combination_counts_every_leg():
    venue = market()
    venue.exchange.accounts.opening_cash = D(10_000)
    combo = combo_of(venue, VERTICAL)
    order = venue.order("BUY", 2, lmt=3, contract=combo.contract, what_if=True)
    (report,) = venue.exchange.place(order, venue.now)
    preview = report.order.preview
    assert preview.commission == D("2.6")                                  # 2 x 0.65 for each leg
    # Short two calls of 110 at 2, 10 out of the money: (2 + max(20 - 10, 10)) x 200; the long ones are paid for.
    assert (preview.initial_before, preview.initial_after) == (0, 2400)
    assert preview.equity_after == 10_000 - 2 * 300 - D("2.6")


def test_an_order_that_the_account_cannot_carry_is_refused_where_the_rules_say_so():
    rules = ExchangeRules(margin_check=True)
    client = RawClient(memory_gateway(rules=rules, cash=D(10_000)))
    refused = client.send(*place(1, quantity="300", lmt="101"))
    assert refused[0][3] == "201"
    assert "MUST EXCEED THE INITIAL MARGIN [15000.00 USD]" in refused[0][4]
    assert "11" in ids(client.send(*place(2, quantity="190", lmt="101")))
    assert "11" in ids(client.send(*place(3, "SELL", quantity="190", lmt="99")))
    easy = RawClient(memory_gateway(cash=D(10_000)))
    assert "11" in ids(easy.send(*place(1, quantity="300", lmt="101")))


def test_an_account_in_trouble_may_still_reduce():
    venue = Venue(margin_check=True)
    venue.exchange.accounts.opening_cash = D(10_000)
    venue.trade(100)
    venue.place("BUY", 190, "MKT")
    venue.trade(40)
    assert venue.place("BUY", 1, "MKT").status == "Inactive"
    assert venue.place("SELL", 100, "MKT").status == "Filled"
