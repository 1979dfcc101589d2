"""What outlives a gateway (ib-wire.md 8, 11): its state file after SIGTERM, after kill -9 and after any story."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing, suppress
from decimal import Decimal as D
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.faults.kinds import ExecCorrection
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.journal import Journal, positions
from actors.venue.simulator.orders import ExchangeRules, Order
from actors.venue.simulator.persistence import StateError
from actors.venue.simulator.settings import DEFAULT_ACCOUNT, GatewaySettings
from tests.venue.gateway_fixture import (
    DEADLINE_S,
    NS,
    START_NS,
    RawClient,
    client_of_port,
    gateway_process,
    run,
    until,
)
from tests.venue.gateway_kills import campaign
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.unit

DAY_NS = 24 * 3600 * NS


def gateway_on(path: Path, now_ns: int = START_NS, **more) -> Gateway:
    wanted = GatewaySettings(state=str(path), exec_prefix="e", walk_interval=D(3600), **more)
    return make_gateway(wanted, Journal(keep=True), now_ns)


def killed(path: Path, to: Path) -> Path:
    """Copy the state as a kill -9 at this instant leaves it: the gateway that uses it has closed nothing."""
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, to.with_name(file.name.replace(path.name, to.name)))
    return to


def snapshots(gateway: Gateway, now_ns: int = START_NS) -> list[list[list[str]]]:
    """Return all that two clients are told when they connect and ask for everything."""
    answers = []
    for client_id in (1, 2):
        client = RawClient(gateway, client_id)
        client.now = now_ns
        answers.append([m for m in client.seen if m[0] == "9"])
        for question in ((5, 1), (16, 1), (99, 0), (7, 3, 9, 0, "", "", "", "", "", ""), (61, 1),
                         (6, 2, 1, DEFAULT_ACCOUNT), (8, 1, 1)):
            answers.append(client.send(*question))
        gateway.disconnect(client.session, now_ns)
    return answers


def told(messages: list[list[str]], kind: str) -> list[list[str]]:
    return [m for m in messages if m[0] == kind]


# one fact at a time --------------------------------------------------------------------------------------------------

def test_orders_fills_positions_cash_and_ids_come_back(tmp_path):
    path = tmp_path / "state.db"
    gateway = gateway_on(path, positions=("AAPL=100@50",))
    client = RawClient(gateway)
    client.send(*place(1, lmt="101"))
    client.send(*place(2, lmt="99", quantity="50"))
    client.send(*place(3, lmt="98"))
    client.send(4, 1, 3, "")
    gateway.disconnect(client.session, START_NS)
    copy = killed(path, tmp_path / "killed.db")
    before = snapshots(gateway)
    again = gateway_on(copy, positions=("AAPL=100@50",))
    assert snapshots(again) == before
    assert told(before[2], "5"), "a live order is among what came back"
    held = again.exchange.accounts.positions[DEFAULT_ACCOUNT, 265598]
    assert held.quantity == 200, "the opening position is not given twice"
    assert positions(again.journal.lines) == {(DEFAULT_ACCOUNT, "AAPL"): D(200)}, "its journal tells what it holds"
    fresh = RawClient(again)
    assert codes(fresh.send(*place(3, lmt="99"))) == ["104"]
    filled = told(fresh.send(*place(4, lmt="101")), "11")[0]
    assert filled[14] not in {m[14] for m in told(before[4], "11")}, "execution ids go on"
    assert fresh.gateway.exchange.orders[1, 2].total == 50


def codes(messages: list[list[str]]) -> list[str]:
    return [m[3] for m in told(messages, "4")]


def test_what_was_not_transmitted_is_lost_but_its_id_is_not_free_again(tmp_path):
    path = tmp_path / "state.db"
    client = RawClient(gateway_on(path))
    client.send(*place(7, lmt="99", transmit="0"))
    client.send(8, 1, 1)
    again = gateway_on(killed(path, tmp_path / "killed.db"))
    assert again.exchange.orders == {}
    assert told(RawClient(again).seen, "9")[0][2] == "8"


@pytest.mark.parametrize(("tif", "days", "alive"), [("GTC", 3, True), ("DAY", 0, True), ("DAY", 1, False)])
def test_gtc_orders_live_on_and_day_orders_only_through_their_day(tmp_path, tif, days, alive):
    path = tmp_path / "state.db"
    client = RawClient(gateway_on(path))
    client.send(*place(1, lmt="99", tif=tif))
    client.send(*place(2, lmt="101"))
    later = START_NS + days * DAY_NS
    again = gateway_on(killed(path, tmp_path / "killed.db"), later)
    seen = snapshots(again, later)
    assert bool(told(seen[2], "5")) == alive
    assert len(told(seen[4], "11")) == (1 if days == 0 else 0), "executions are told since midnight"
    assert (again.exchange.known(1, 1).done_text == "Expired") == (not alive)


def test_a_closed_group_stays_closed_and_a_bracket_still_waits_for_its_parent(tmp_path):
    path = tmp_path / "state.db"
    gateway = gateway_on(path)
    contract = gateway.contracts.named("AAPL")

    def order(order_id: int, **more) -> Order:
        fields = {"action": "SELL", "total": D(100), "order_type": "LMT", "lmt": D(110), "tif": "GTC", **more}
        return Order(client_id=1, order_id=order_id, contract=contract, account=DEFAULT_ACCOUNT, **fields)

    exchange = gateway.exchange
    for each in (order(1, oca_group="g"), order(2, oca_group="g", lmt=D(99)),
                 order(3, action="BUY", lmt=D(90), transmit=False), order(4, parent_id=3)):
        exchange.place(each, START_NS)
    gateway.save()
    again = gateway_on(killed(path, tmp_path / "killed.db")).exchange
    assert again.known(1, 1).done_text == "Cancelled by OCA"
    again.place(order(5, oca_group="g"), START_NS)
    assert again.known(1, 5).done_text.endswith("OCA group is already filled")
    parent, child = again.known(1, 3), again.known(1, 4)
    assert child.why_held == "child"
    again.quote_of(contract.con_id).bid = D(111)
    assert again.market(contract.con_id, START_NS) == [], "a child does not trade before its parent"
    again.quote_of(contract.con_id).bid = D(99)
    again.fill(parent, D(100), D(90), START_NS)
    assert (child.status, child.why_held) == ("Submitted", "")


def test_nothing_is_said_before_it_is_stored(tmp_path):
    path = tmp_path / "state.db"
    client = RawClient(gateway_on(path))
    said = client.send(*place(1, lmt="99"))
    perm_id = told(said, "3")[0][6]
    again = gateway_on(killed(path, tmp_path / "killed.db"))
    assert [str(o.perm_id) for o in again.exchange.open_orders()] == [perm_id]


def test_what_was_due_is_still_due_and_a_trail_stays_where_it_had_come(tmp_path):
    path, rules = tmp_path / "state.db", ExchangeRules(cancel_delay_ms=500, oca_delay_ms=700)
    gateway = gateway_on(path, rules=rules)
    exchange, contract = gateway.exchange, gateway.contracts.named("AAPL")

    def order(order_id: int, **more) -> Order:
        fields = {"action": "SELL", "total": D(100), "order_type": "LMT", "lmt": D(110), "tif": "GTC", **more}
        return Order(client_id=1, order_id=order_id, contract=contract, account=DEFAULT_ACCOUNT, **fields)

    for each in (order(1), order(2, tif="GTD", good_till_date="20251009-09:00:00"), order(3, oca_group="g"),
                 order(4, oca_group="g", lmt=D(111)), order(5, order_type="TRAIL", aux=D(1))):
        exchange.place(each, START_NS)
    exchange.cancel(1, 1, START_NS)
    exchange.fill(exchange.known(1, 3), D(100), D(110), START_NS)
    exchange.quote_of(contract.con_id).last = D(105)
    assert exchange.market(contract.con_id, START_NS) == [], "the trail moves and nothing is said of it"
    gateway.save()
    again = gateway_on(killed(path, tmp_path / "killed.db"), rules=rules).exchange
    assert again.known(1, 5).trail_stop == 104
    ends = []
    for order_id in (1, 4, 2):
        assert again.known(1, order_id).alive
        due = again.next_expiry_ns()
        again.expire(due)
        ends.append((again.known(1, order_id).done_text, (due - START_NS) / NS))
    assert ends == [("Cancelled by Trader", 0.5), ("Cancelled by OCA", 0.7), ("Expired", 400)]


def test_completed_orders_and_executions_are_bounded_in_the_file(tmp_path):
    path = tmp_path / "state.db"
    gateway = gateway_on(path, rules=ExchangeRules(completed_cap=5))
    client = RawClient(gateway)
    for n in range(1, 21):
        client.send(*place(n, lmt="101"))
    gateway.close()
    with closing(sqlite3.connect(path)) as file:
        counts = dict(file.execute("SELECT kind, COUNT(*) FROM fact GROUP BY kind").fetchall())
    assert (counts["done"], counts["execution"]) == (5, 5)
    again = gateway_on(path, rules=ExchangeRules(completed_cap=5))
    assert [e.order_id for e in again.exchange.executions] == [16, 17, 18, 19, 20]


# files that cannot be used -------------------------------------------------------------------------------------------

def test_a_file_in_use_of_another_kind_of_another_account_or_format_is_refused_by_name(tmp_path):
    path = tmp_path / "state.db"
    gateway = gateway_on(path)
    with pytest.raises(StateError, match="another gateway uses it"):
        gateway_on(path)
    gateway.close()
    with pytest.raises(StateError, match=f"holds accounts {DEFAULT_ACCOUNT}"):
        gateway_on(path, accounts=("DU5",))
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE fact SET body = x'c0' WHERE kind = 'counters'")
    with pytest.raises(StateError, match="another version"):
        gateway_on(path)
    (tmp_path / "text").write_text("this is no database, and long enough to be looked at twice" * 20)
    with pytest.raises(StateError, match="not a database"):
        gateway_on(tmp_path / "text")
    with pytest.raises(StateError, match="unable to open"):
        gateway_on(tmp_path / "missing" / "state.db")


# a process -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_gateway_that_was_ended_comes_back_with_what_its_client_was_told(tmp_path, how):
    library = pytest.importorskip("ib_insync")
    state = str(tmp_path / "state.db")

    async def first(port: int, process) -> dict:
        async with client_of_port(library, port) as ib:
            (contract,) = await ib.qualifyContractsAsync(library.Stock("AAPL", "SMART", "USD"))
            resting = ib.placeOrder(contract, library.LimitOrder("BUY", 100, 50, tif="GTC", orderRef="resting"))
            bought = ib.placeOrder(contract, library.MarketOrder("BUY", 10, tif="DAY", orderRef="bought"))
            await until(lambda: bought.fills and bought.fills[0].commissionReport.execId, "the fill")
            await until(lambda: resting.orderStatus.status == "Submitted", "the resting order")
            process.send_signal(how)
            return {"order": resting.order.orderId, "perm": resting.order.permId,
                    "exec": bought.fills[0].execution.execId}

    async def second(port: int, was: dict) -> None:
        async with client_of_port(library, port) as ib:
            (trade,) = ib.openTrades()
            assert trade.order.orderRef == "resting"
            assert (trade.order.permId, trade.order.orderId) == (was["perm"], was["order"])
            assert [f.execution.execId for f in ib.fills()] == [was["exec"]]
            assert [p.position for p in ib.positions()] == [10]
            assert ib.client.getReqId() > was["order"] + 1
            ib.cancelOrder(trade.order)
            await until(lambda: trade.orderStatus.status == "Cancelled", "the cancel")

    with gateway_process(state=state) as (process, port):
        was = run(lambda: first(port, process))
        process.wait(DEADLINE_S)
    with gateway_process(state=state) as (_, port):
        run(lambda: second(port, was))


# any story -----------------------------------------------------------------------------------------------------------

cents = st.integers(9700, 10300).map(lambda n: D(n) / 100)
placing = st.fixed_dictionaries({
    "do": st.just("place"), "client": st.integers(1, 2), "buys": st.booleans(), "quantity": st.integers(1, 50),
    "kind": st.sampled_from(["LMT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL", "MKT"]),
    "away": st.integers(-50, 500).map(lambda n: D(n) / 100), "tif": st.sampled_from(["DAY", "GTC", "GTC", "IOC"]),
    "transmit": st.sampled_from([True, True, True, False]), "group": st.sampled_from(["", "g1", "g1", "g2"]),
    "oca_type": st.integers(1, 3), "method": st.sampled_from([0, 0, 1]), "parent": st.sampled_from([0, 0, 0, 1, 2, 3]),
    "manual": st.sampled_from([False, False, False, True])})
trading = st.fixed_dictionaries({"do": st.just("trade"), "last": cents, "size": st.integers(1, 60)})
acting = st.fixed_dictionaries({"do": st.sampled_from(["cancel", "amend", "fill", "fill", "reject", "system", "bind"]),
                                "n": st.integers(0, 9), "price": cents, "quantity": st.integers(1, 60)})
STEPS = st.lists(st.one_of(placing, placing, trading, trading, acting), min_size=8, max_size=24)
RULES = st.fixed_dictionaries({}, optional={
    "cancel_delay_ms": st.just(250), "oca_delay_ms": st.just(150), "accept_delay_ms": st.just(150),
    "liquidity": st.just("displayed"), "oca_block": st.just(True), "child_activation": st.just("partial"),
    "oca_amend": st.just(True), "lower_ids": st.just(True), "completed_cap": st.just(3)})


def play(gateway: Gateway, step: dict, n: int) -> None:
    """Do one step of a story at its own time; what it does depends on the gateway's books alone."""
    exchange, now = gateway.exchange, START_NS + n * NS // 10
    contract = gateway.contracts.named("AAPL")
    if step["do"] == "trade":
        q = exchange.quote_of(contract.con_id)
        q.last, q.bid, q.ask = step["last"], step["last"] - D("0.01"), step["last"] + D("0.01")
        q.bid_size = q.ask_size = D(step["size"])
        gateway.deliver(exchange.market(contract.con_id, now), now)
    elif step["do"] == "place":
        away = step["away"] if step["buys"] else -step["away"]
        order = Order(
            client_id=step["client"], order_id=n + 1, contract=contract, action="BUY" if step["buys"] else "SELL",
            total=D(step["quantity"]), order_type=step["kind"], account=DEFAULT_ACCOUNT, lmt=100 - away,
            aux=abs(away) + 1 if step["kind"] == "TRAIL" else 100 + away, tif=step["tif"], oca_group=step["group"],
            oca_type=step["oca_type"], trigger_method=step["method"], transmit=step["transmit"],
            parent_id=step["parent"], order_ref=f"r{n}")
        if step["manual"] and not step["parent"]:
            order.transmit = True
            gateway.manual_order(order, now)
        else:
            gateway.deliver(exchange.place(order, now), now)
    else:
        act(gateway, step, now)
    gateway.advance(now)


def act(gateway: Gateway, step: dict, now: int) -> None:
    exchange, live = gateway.exchange, gateway.exchange.open_orders()
    if step["do"] == "bind":
        gateway.deliver(exchange.bind_manual(), now)
    elif live:
        order = live[step["n"] % len(live)]
        quantity, price = D(step["quantity"]), step["price"]
        reports = {
            "cancel": lambda: exchange.cancel(order.client_id, order.order_id, now),
            "amend": lambda: exchange.place(msgspec.structs.replace(order, lmt=price, total=quantity, manual=0), now),
            "fill": lambda: exchange.fill(order, quantity, price, now),
            "reject": lambda: exchange.reject(order, 201, "no", now),
            "system": lambda: exchange.system_cancel(order, "no", now)}[step["do"]]()
        gateway.deliver(reports, now)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.integers(2, 24), RULES)
def test_a_restart_anywhere_changes_no_answer_and_nothing_that_comes_after(steps, cut, rules):
    cut = min(cut, len(steps))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        old = gateway_on(path, rules=ExchangeRules(**rules))
        for n, step in enumerate(steps[:cut]):
            play(old, step, n)
        new = gateway_on(killed(path, Path(folder) / "killed.db"), rules=ExchangeRules(**rules))
        old.restart(START_NS)
        books = [g.exchange.book(265598) for g in (old, new)]
        books[1].quote = msgspec.structs.replace(books[0].quote)     # the market is not the gateway's to remember
        assert snapshots(new) == snapshots(old)
        marks = [len(g.journal.lines) for g in (old, new)]
        for n, step in enumerate(steps[cut:], cut):
            play(old, step, n)
            play(new, step, n)
        histories = [[{k: v for k, v in line.items() if k != "seq"} for line in g.journal.lines[mark:]]
                     for g, mark in zip((old, new), marks, strict=True)]
        assert histories[0] == histories[1]
        assert snapshots(new) == snapshots(old)
        for gateway in (old, new):
            gateway.close()


# trouble with files ---------------------------------------------------------------------------------------------------

def test_a_corrected_execution_is_stored_with_what_it_changed(tmp_path):
    path = tmp_path / "state.db"
    gateway = gateway_on(path, faults=(ExecCorrection(dt=1, ticks=3),))
    client = RawClient(gateway)
    client.send(*place(1, lmt="101"))
    client.send(*place(2, lmt="90"))
    gateway.advance(START_NS + 2 * NS)
    corrected = told(client.read(), "11")[0]
    assert corrected[14].endswith(".02")
    gateway.disconnect(client.session, START_NS)
    copy = killed(path, tmp_path / "killed.db")
    before = snapshots(gateway)
    again = gateway_on(copy)
    assert snapshots(again) == before
    assert again.exchange.done[1, 1].cost == gateway.exchange.done[1, 1].cost


def test_more_executions_in_one_turn_than_are_remembered_leave_every_position_right(tmp_path):
    path = tmp_path / "state.db"
    gateway = gateway_on(path, rules=ExchangeRules(completed_cap=2))
    exchange = gateway.exchange
    for n, symbol in enumerate(("AAPL", "SPY", "MSFT", "TSLA"), 1):
        order = Order(client_id=1, order_id=n, contract=gateway.contracts.named(symbol), action="BUY", total=D(n),
                      order_type="LMT", lmt=D(1), account=DEFAULT_ACCOUNT, tif="GTC")
        exchange.place(order, START_NS)
        exchange.fill(order, D(n), D(1), START_NS)
    gateway.save()
    again = gateway_on(killed(path, tmp_path / "killed.db"), rules=ExchangeRules(completed_cap=2))
    assert [p.quantity for p in again.exchange.accounts.positions.values()] == [1, 2, 3, 4]


def test_any_damage_to_a_state_file_is_told_in_one_sentence(tmp_path):
    gateway = gateway_on(tmp_path / "state.db")
    client = RawClient(gateway)
    for n in range(1, 20):
        client.send(*place(n, lmt="101" if n % 2 else "90"))
    gateway.close()
    whole = (tmp_path / "state.db").read_bytes()
    draw, refused = random.Random(4), []
    for n in range(40):
        data = bytearray(whole[:draw.randrange(100, len(whole))] if n % 4 == 0 else whole)
        for _ in range(draw.choice([1, 30, 300])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path = tmp_path / f"damaged{n}.db"
        path.write_bytes(data)
        try:
            gateway_on(path).close()
        except StateError as problem:
            refused.append(str(problem))
    assert len(refused) > 20
    assert all(text.startswith(f"state file {tmp_path}/damaged") and "\n" not in text for text in refused)


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs, theirs:
        theirs.execute("CREATE TABLE events (body)")
    before = path.read_bytes()
    with pytest.raises(StateError, match="another program's, which keeps events"):
        gateway_on(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kept", ["state", "journal"])
def test_a_full_disk_ends_the_gateway_with_one_sentence_and_nothing_untrue_said(tmp_path, kept):
    library = pytest.importorskip("ib_insync")
    path = tmp_path / "kept"

    async def flow(port: int, pid: int) -> list[int]:
        async with client_of_port(library, port) as ib:
            contract = library.Stock("AAPL", "SMART", "USD", conId=265598)
            largest = max(file.stat().st_size for file in tmp_path.glob("kept*")) + 20_000
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, largest))
            trades = []
            while ib.isConnected() and len(trades) < 5000:
                with suppress(ConnectionError):
                    trades.append(ib.placeOrder(contract, library.LimitOrder("BUY", 1, 50, tif="GTC")))
                await asyncio.sleep(0.001)
            assert not ib.isConnected(), "it went on without its file"
            return [t.order.permId for t in trades if t.order.permId]

    async def live(port: int) -> set[int]:
        async with client_of_port(library, port) as ib:
            return {t.order.permId for t in ib.openTrades()}

    with gateway_process(**{kept: str(path)}) as (process, port):
        heard = run(lambda: flow(port, process.pid))
        assert process.wait(DEADLINE_S) == 2
    if kept == "state":
        with gateway_process(state=str(path)) as (_, port):
            assert set(heard) <= run(lambda: live(port))


def test_whatever_a_client_was_told_is_known_after_any_kill(tmp_path):
    found = campaign(3, 1, tmp_path)
    assert len(found.filled) > 20
    assert found.executions
