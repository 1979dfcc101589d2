"""Scenario files: refused where they are wrong, and the ten packaged ones play as their story says, in virtual time."""

from __future__ import annotations

import re
from decimal import Decimal as D
from importlib import resources

import pytest

from actors.venue.simulator import scenario
from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.journal import Journal, executions, final_orders, positions, select
from actors.venue.simulator.runner import ScenarioRunner
from actors.venue.simulator.scenario import ScenarioError, parse
from actors.venue.simulator.settings import GatewaySettings
from tests.venue.gateway_fixture import NS, ROOT, START_NS, RawClient, memory_gateway
from tests.venue.test_sim_session import AAPL, place

pytestmark = pytest.mark.unit
NAMES = ["entry-cancelled", "gap", "oco", "otoco", "partial", "race", "reject", "stop", "target", "trailing"]


class Desk:
    """A careful trader at a raw client: places exits when the entry fills, and lets time run."""

    def __init__(self, name: str) -> None:
        self.gateway = memory_gateway(scenario=name)
        self.client = RawClient(self.gateway)
        self.covered = D(0)
        self.next_id = 1
        self.now = START_NS

    def send(self, *args, **fields) -> None:
        self.client.now = self.now
        self.client.send(*place(self.next_id, *args, **fields))
        self.next_id += 1

    def protect(self, quantity: D, n: int) -> None:
        self.send("SELL", str(quantity), "LMT", lmt="110", ref=f"B1.target.{n}", group=f"B1.g{n}", tif="GTC")
        self.send("SELL", str(quantity), "STP", aux="95", ref=f"B1.stop.{n}", group=f"B1.g{n}", tif="GTC")

    def filled(self, ref: str) -> D:
        return sum((o.filled for o in self.gateway.exchange.matching(ref)), D(0))

    def run(self, seconds: int = 60, cover: bool = True) -> list[dict]:
        """Let virtual time run to the end of the scenario; cover each fill of the entry on the way."""
        n = 0
        for _ in range(seconds * 20):
            due = self.gateway.advance(self.now)
            if cover and self.filled("B1.entry") > self.covered:
                n += 1
                self.protect(self.filled("B1.entry") - self.covered, n)
                self.covered = self.filled("B1.entry")
                continue
            if self.gateway.driver.done:
                break
            self.now = self.now + NS // 20 if due is None else max(due, self.now + 1)
        assert self.gateway.driver.done, "the scenario has come to its end"
        return self.gateway.journal.lines


def test_all_ten_are_packaged_and_tell_their_story():
    assert scenario.packaged() == NAMES
    for name in NAMES:
        story = scenario.load(name)
        assert story.title
        assert story.story
        assert all(step.say for step in story.step)


def test_every_packaged_story_is_commented():
    folder = resources.files("actors.venue.simulator") / "scenarios"
    for name in NAMES:
        assert re.search("^# .{40}", (folder / f"{name}.toml").read_text(), re.M), name


def test_the_example_of_every_table_plays_to_its_end():
    path = ROOT / "docs" / "examples" / "gateway-weather.toml"
    gateway = memory_gateway(scenario=str(path))
    story = scenario.load(str(path))
    assert all(getattr(story, table) for table in story.__struct_fields__)
    client, now = RawClient(gateway), START_NS
    client.send(*place(1, "SELL", lmt="45", contract=["5", "", *AAPL[2:]]))
    while now < START_NS + 100 * NS:
        now = gateway.advance(now)
    client.read()
    assert {m[3] for m in client.seen if m[0] == "4"} >= {"404", "1100", "1101"}
    assert select(gateway.journal.lines, "scenario_done")
    (order,) = gateway.exchange.done.values()
    assert order.status == "Filled"


def test_target():
    desk = Desk("target")
    desk.send(lmt="100")
    lines = desk.run()
    assert [(e["orderRef"], e["quantity"], e["price"]) for e in executions(lines)] == [
        ("B1.entry", "100", "100"), ("B1.target.1", "100", "110")]
    assert final_orders(lines)["B1.stop.1"]["status"] == "Cancelled"
    assert positions(lines) == {("DU1000001", "AAPL"): 0}
    assert [s["say"] for s in select(lines, "step")] == [s.say for s in scenario.load("target").step]


@pytest.mark.parametrize(("name", "price"), [("stop", "94.99"), ("otoco", "94.99"), ("gap", "89.98")])
def test_the_stop_takes_the_bid_that_is_there(name, price):
    desk = Desk(name)
    desk.send(lmt="100")
    lines = desk.run()
    assert [(e["orderRef"], e["price"]) for e in executions(lines)] == [("B1.entry", "100"), ("B1.stop.1", price)]
    assert final_orders(lines)["B1.target.1"]["status"] == "Cancelled"


def test_partial_comes_in_forty_thirty_five_twenty_five():
    desk = Desk("partial")
    desk.send(lmt="100")
    lines = desk.run()
    assert [e["quantity"] for e in executions(lines, "B1.entry")] == ["40", "35", "25"]
    assert [e["quantity"] for e in executions(lines, "*.target.*")] == ["40", "35", "25"]
    assert positions(lines) == {("DU1000001", "AAPL"): 0}


def test_partial_goes_on_when_nobody_covers():
    desk = Desk("partial")
    desk.send(lmt="100")
    assert positions(desk.run(cover=False)) == {("DU1000001", "AAPL"): 100}


def test_oco_starts_with_a_position():
    desk = Desk("oco")
    desk.protect(D(100), 1)
    lines = desk.run()
    assert [e["orderRef"] for e in executions(lines)] == ["B1.target.1"]
    assert positions(lines) == {("DU1000001", "AAPL"): 0}


def test_race_fills_both_exits():
    desk = Desk("race")
    desk.send(lmt="100")
    lines = desk.run()
    assert {e["orderRef"]: e["price"] for e in executions(lines)} == {
        "B1.entry": "100", "B1.target.1": "110", "B1.stop.1": "95"}
    assert positions(lines) == {("DU1000001", "AAPL"): -100}


def test_reject_refuses_the_entry():
    desk = Desk("reject")
    desk.gateway.advance(START_NS)
    desk.send(lmt="100")
    lines = desk.run()
    assert final_orders(lines)["B1.entry"]["status"] == "Inactive"
    assert executions(lines) == []


def test_entry_cancelled_never_trades():
    desk = Desk("entry-cancelled")
    desk.send(lmt="100")
    lines = desk.run()
    assert final_orders(lines)["B1.entry"]["status"] == "Cancelled"
    assert executions(lines) == []


def test_trailing_climbs_to_108_and_falls_through_any_trail():
    desk = Desk("trailing")
    desk.send(lmt="100")
    desk.client.send(1, 11, 5, *AAPL, 0, "", 0, 0, "")
    lines = desk.run(cover=False)
    lasts = [D(q["last"]) for q in select(lines, "quote") if q["symbol"] == "AAPL" and "last" in q]
    assert max(lasts) == 108
    assert lasts.index(D(100)) < lasts.index(D(108))
    assert lasts[-1] == 96


# waiting and acting ------------------------------------------------------------------------------------------------

def play(text: str) -> tuple[Gateway, ScenarioRunner]:
    gateway = memory_gateway()
    runner = ScenarioRunner(gateway, parse("title = 't'\n" + text, "t.toml"), START_NS)
    gateway.driver = runner
    return gateway, runner


def test_a_step_waits_for_its_condition_then_for_its_seconds():
    gateway, runner = play("[[step]]\nwhen = {working = '*.entry'}\nafter = 2\nprice = {symbol = 'AAPL', last = 50}")
    assert gateway.advance(START_NS) is None
    client = RawClient(gateway)
    client.send(*place(1, lmt="90"))
    assert gateway.advance(START_NS) == START_NS + 2 * NS
    gateway.advance(START_NS + 2 * NS - 1)
    assert not runner.done
    gateway.advance(START_NS + 2 * NS)
    assert runner.done
    assert gateway.exchange.done[1, 1].status == "Filled"


def test_at_most_lets_the_story_go_on_without_its_condition():
    gateway, runner = play("[[step]]\nwhen = {working = 'x', at_most = 3}\nprice = {symbol = 'AAPL', last = 50}")
    assert gateway.advance(START_NS) == START_NS + 3 * NS
    gateway.advance(START_NS + 3 * NS)
    assert runner.done


CONDITIONS = [
    ("clients = 1", True), ("clients = 2", False), ("subscribed = 'AAPL'", True), ("subscribed = 'SPY'", False),
    ("placed = '*.entry'", True), ("working = '*.entry'", True), ("working = '*.entry', count = 2", False),
    ("working = '*.entry', shares = 100", True), ("working = '*.entry', shares = 101", False),
    ("filled = '*.target'", True), ("filled = '*.entry'", False), ("traded = '*.target', shares = 100", True),
    ("dead = '*.gone'", True), ("dead = '*.target'", False), ("working = ['*.entry', '*.stop']", False),
    ("working = '*.entry', dead = '*.gone'", True)]


@pytest.mark.parametrize(("when", "holds"), CONDITIONS)
def test_conditions(when, holds):
    gateway, runner = play(f"[[step]]\nwhen = {{{when}}}")
    client = RawClient(gateway)
    client.send(1, 11, 5, *AAPL, 0, "", 0, 0, "")
    client.send(*place(1, lmt="90", ref="B.entry"))
    client.send(*place(2, lmt="101", ref="B.target"))
    client.send(*place(3, lmt="90", ref="B.gone"))
    client.send("4", "1", "3", "")
    assert runner.holds(runner.scenario.step[0].when) is holds


def test_every_action_does_what_it_says():
    gateway, runner = play("""
[[contract]]
con_id = 5
symbol = "ZED"
[[step]]
when = {working = "a"}
fill = {order_ref = "a", quantity = 10}
[[step]]
reject = {order_ref = "b", code = 201, reason = "no margin"}
[[step]]
cancel = {order_ref = "c"}
[[step]]
refuse_next = {order_ref = "d*", count = 1}
[[step]]
halt = {symbol = "AAPL", halted = 1}
[[step]]
path = {symbol = "ZED", lasts = [10, 11], every = 0}
[[step]]
fill = {order_ref = "nobody"}
[[step]]
disconnect = {client_id = 1}
""")
    client = RawClient(gateway)
    client.send(1, 11, 5, *AAPL, 0, "", 0, 0, "")
    for n, ref in enumerate("cba", 1):
        client.send(*place(n, lmt="90", ref=ref))
    gateway.advance(START_NS)
    assert runner.done
    state = {o.order_ref: (o.status, o.filled) for o in (*gateway.exchange.orders.values(),
                                                        *gateway.exchange.done.values())}
    assert state == {"a": ("Submitted", 10), "b": ("Inactive", 0), "c": ("Cancelled", 0)}
    assert ["45", "6", "5", "49", "1"] in client.read()
    assert gateway.exchange.quote_of(5).last == 11
    assert select(gateway.journal.lines, "step_found_no_order")
    assert client.session.closing
    other = RawClient(gateway, 2)
    other.send(*place(1, lmt="90", ref="d1"))
    other.send(*place(2, lmt="90", ref="d2"))
    assert [o.order_ref for o in gateway.exchange.open_orders(2)] == ["d2"]


def test_rules_of_a_scenario_reach_the_exchange(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("title = 't'\n[rules]\noca_cancel_cascade = false\n")
    gateway = make_gateway(GatewaySettings(scenario=str(path)), Journal(), START_NS)
    assert gateway.exchange.rules.oca_cancel_cascade is False


@pytest.mark.parametrize("rate", ["0.01", "'0.01'"])
def test_a_rule_that_is_an_amount_may_be_written_as_a_number_or_a_text(tmp_path, rate):
    path = tmp_path / "mine.toml"
    path.write_text(f"title = 't'\n[rules]\ncommission_per_share = {rate}\n")
    gateway = make_gateway(GatewaySettings(scenario=str(path)), Journal(), START_NS)
    client = RawClient(gateway)
    client.send(*place(1, quantity="1000", kind="MKT", lmt=""))
    assert [e.commission for e in gateway.exchange.executions] == [D(10)]


# refusals: text, line, what is named -------------------------------------------------------------------------------

MINE = "title = 't'\n[[contract]]\ncon_id = 5\nsymbol = 'ZED'\n"
BAD = [
    ("title = ", 1, "TOML"),
    ("title = 3", 1, "title"),
    ("title = 't'\nstory = 't'\ntilte = 't'", 1, "tilte"),
    ("title = 't'\n[[step]]\nsay = 'a'\n[[step]]\nafter = -1", 5, "step[1].after"),
    ("title = 't'\n[[step]]\nprice = {symbol = 'ZZZ', last = 1}", 3, "ZZZ"),
    ("title = 't'\n[[step]]\nprice = {symbol = 'AAPL', last = 0}", 3, "step[0].price.last"),
    ("title = 't'\n[[step]]\nprice = {symbol = 'AAPL', last = nan}", 3, "step[0].price.last"),
    ("title = 't'\n[[step]]\nprice = {symbol = 'AAPL'}", 3, "at least one"),
    ("title = 't'\n[[step]]\nprise = 1", 2, "prise"),
    ("title = 't'\n[[step]]\nwhen = {working = ''}", 3, "step[0].when.working"),
    ("title = 't'\n[[step]]\nwhen = {count = 0}", 3, "step[0].when.count"),
    ("title = 't'\n[[step]]\nfill = {order_ref = 'a', quantity = -1}", 3, "step[0].fill.quantity"),
    ("title = 't'\n[[step]]\nfill_both = [{order_ref = 'a'}]", 3, "step[0].fill_both"),
    ("title = 't'\n[[step]]\nhalt = {symbol = 'AAPL'}\ncancel = {order_ref = 'a'}", 2, "one thing"),
    ("title = 't'\n[rules]\noca = 1", 2, "oca"),
    ("title = 't'\n[rules]\noca_amend = 'yes'", 3, "oca_amend"),
    ("title = 't'\n[rules]\ncommission_per_share = nan", 3, "rules.commission_per_share"),
    ("title = 't'\n[rules]\npreset_tif = 'DAY'\ncommission_minimum = -1", 4, "commission_minimum"),
    ("title = 't'\n[[position]]\nsymbol = 'AAPL'\nquantity = 0\ncost = 1", 4, "position[0].quantity"),
    ("title = 't'\n[[position]]\nsymbol = 'AAPL'\nquantity = 1\ncost = 1\naccount = 'U9'", 6, "'U9' is not one of DU7"),
    ("title = 't'\n[[model]]\nsymbol = 'ZZZ'", 3, "model[0].symbol"),
    ("title = 't'\n[[model]]\nsymbol = 'SPY'\nvolatility = -1", 4, "model[0].volatility"),
    ("title = 't'\n[[model]]\nvolatilty = 1\nsymbol = 'SPY'", 2, "volatilty"),
    ("title = 't'\n[[model]]\nsymbol = 'SPY'\n[[model]]\nsymbol = 'SPY'", 5, "model[1].symbol"),
    (MINE, 3, "con_id: 265598 is another", ("5", "265598")),
    (MINE + "[[contract]]\ncon_id = 5\nsymbol = 'TWO'", 6, "contract[1].con_id"),
    (MINE, 3, "con_id", ("5", "700000000")),
    (MINE, 4, "conId 265598", ("ZED", "AAPL")),
    (MINE + "market_rule_id = 999", 5, "market_rule_id: 999 is not known: 26"),
    (MINE + "sec_type = 'FUT'\nexpiry = '20301220'\nunder = 'ZZZ'", 7, "contract[0].under"),
    (MINE + 'exchange = "A\\u0000B"', 5, "contract[0].exchange"),
    (MINE + 'long_name = "A\\u0000B"', 5, "contract[0].long_name"),
    (MINE + "currency = ''", 5, "contract[0].currency"),
]


@pytest.mark.parametrize(("text", "line", "named", "change"), [(*bad, ("", ""))[:4] for bad in BAD])
def test_a_wrong_scenario_is_refused_with_file_line_and_field(text, line, named, change):
    with pytest.raises(ScenarioError) as refused:
        parse(text.replace(*change, 1), "mine.toml", ("DU7",))
    assert str(refused.value).startswith(f"mine.toml:{line}:"), refused.value
    assert named in str(refused.value)


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(ScenarioError, match="target, trailing"):
        scenario.load("nope")
    with pytest.raises(ScenarioError, match="cannot be read"):
        scenario.load("/nowhere/x.toml")
