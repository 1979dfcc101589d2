"""Where a fault acts: its aim, its words on the command line and in a scenario, its dice; the pace of ib-wire.md 12."""

from __future__ import annotations

import time
from decimal import Decimal as D

import msgspec
import pytest

from actors.cli.common import CommandError
from actors.cli.gateway import serve
from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.faults import reading
from actors.venue.simulator.faults.aiming import next_clock_ns
from actors.venue.simulator.faults.kinds import KINDS, AnyFault, plain
from actors.venue.simulator.faults.reading import FaultError, draw, make_fault, read_fault
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.journal import Journal, executions, placements, select
from actors.venue.simulator.scenario import ScenarioError, parse
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.validation import NEW_YORK
from tests.venue.gateway_fixture import NS, START_NS, RawClient, memory_gateway
from tests.venue.test_sim_session import AAPL, ids, place

pytestmark = pytest.mark.unit


def gateway_with(*faults: str, **settings):
    return memory_gateway(faults=tuple(read_fault(text) for text in faults), **settings)


def acted(gateway, name: str = "*") -> list[dict]:
    return [line for line in select(gateway.journal.lines, "fault") if name in ("*", line["fault"])]


def statuses(messages: list[list[str]]) -> int:
    return ids(messages).count("3")


# the aim ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("aim", "doubled"), [
    ("", [2, 2, 2, 2]), ("ref=a.*", [2, 1, 2, 1]), ("client=2", [1, 1, 2, 2]), ("symbol=MSFT", [1, 2, 1, 2]),
    ("symbol=[AM]*", [2, 2, 2, 2]), ("client=2,ref=b.*", [1, 1, 1, 2]), ("client=9", [1, 1, 1, 1]),
    ("message=order*", [2, 2, 2, 2]), ("at=5", [1, 1, 1, 1]), ("lasts=5", [2, 2, 2, 2]), ("chance=0", [1, 1, 1, 1]),
    ("clock=23:59", [1, 1, 1, 1])])
def test_an_aim_fits_by_client_order_symbol_message_and_time(aim, doubled):
    gateway = gateway_with(f"dup_status:{aim}" if aim else "dup_status")
    msft = ["0", "MSFT", *AAPL[2:]]
    found = []
    for client in (1, 2):
        raw = RawClient(gateway, client)
        found += [statuses(raw.send(*place(1, lmt="50", ref="a.x"))),
                  statuses(raw.send(*place(2, lmt="50", ref="b.x", contract=msft)))]
    assert found == [2 * n for n in doubled]
    assert len(acted(gateway)) == sum(2 for n in doubled if n == 2)


def test_it_acts_from_the_nth_occasion_on_and_so_many_times():
    gateway = gateway_with("dup_status:after=3,times=2")
    raw = RawClient(gateway)
    found = [statuses(raw.send(*place(n, lmt="50", ref=f"r{n}"))) for n in range(1, 6)]
    assert found == [2, 4, 2, 2, 2], "two statuses each: the third and the fourth of all are doubled"
    assert [line["orderRef"] for line in acted(gateway)] == ["r2", "r2"]


def test_times_of_zero_is_for_ever_where_once_is_the_rule():
    gateway = gateway_with("pacing_error_100:message=reqIds,times=0")
    raw = RawClient(gateway)
    assert [m[3] for n in range(3) for m in raw.send(8, 1, 1)] == ["100"] * 3
    assert raw.session.closing


def test_at_and_lasts_count_from_when_it_was_set():
    gateway = memory_gateway()
    raw = RawClient(gateway)
    gateway.faults.add(read_fault("dup_status:at=2,lasts=3"), START_NS + 10 * NS)
    found = []
    for n, second in enumerate((11, 13, 14, 16), 1):
        raw.now = START_NS + second * NS
        found.append(statuses(raw.send(*place(n, lmt="50"))))
    assert found == [2, 4, 4, 2]


def test_dice_are_the_seed_s_and_another_fault_does_not_move_them():
    def told(seed: int, *more: str) -> list[int]:
        raw = RawClient(gateway_with("dup_status:chance=0.5", *more, fault_seed=seed))
        return [statuses(raw.send(*place(n, lmt="50"))) for n in range(1, 30)]

    assert told(1) == told(1) == told(1, "late_commission:chance=0.5") != told(2)
    assert 2 < told(1).count(2) < 27 or set(told(1)) == {2, 3, 4}


def test_an_event_happens_at_its_second_and_at_its_time_of_day_each_day():
    gateway = gateway_with("farm_flap:at=3,dt=1", "link:clock=23:45,dt=2,times=2")
    assert gateway.advance(START_NS) == START_NS + 3 * NS
    gateway.advance(START_NS + 3 * NS)
    assert gateway.link.farms_down
    gateway.advance(START_NS + 4 * NS)
    assert not gateway.link.farms_down
    first = next_clock_ns("23:45", START_NS)
    for night in (first, first + 86_400 * NS):
        assert not gateway.link.down
        gateway.advance(night - 1)
        assert not gateway.link.down
        gateway.advance(night)
        assert gateway.link.down
        gateway.advance(night + 2 * NS)
    gateway.advance(first + 3 * 86_400 * NS)
    assert len(acted(gateway, "link")) == 2, "twice was said"


def test_the_time_of_day_is_new_york_s():
    from datetime import datetime
    for text, clock in (("2025-10-09T04:53:20", "04:53:20"), ("2025-10-09T04:53:20", "04:53"), ("2025-11-02T12:00:00",
                                                                                             "23:59")):
        now = int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * NS
        found = datetime.fromtimestamp(next_clock_ns(clock, now) / NS, NEW_YORK)
        assert found.strftime("%H:%M:%S").startswith(clock)
        assert 0 <= next_clock_ns(clock, now) - now <= 86_400 * NS


# words ------------------------------------------------------------------------------------------------------------

def test_every_fault_can_be_written_and_read_again_in_three_ways():
    for name in KINDS:
        fault = read_fault(name)
        assert fault.kind == name
        assert make_fault(plain(fault), "here") == fault
        assert msgspec.json.decode(msgspec.json.encode(fault), type=AnyFault) == fault
        assert read_fault(f"{name}:message=*,client=3,after=2,times=1,chance=0.5").client == 3
    assert read_fault("dup_status:ref=123,n=3").ref == "123"


@pytest.mark.parametrize(("text", "said"), [
    ("dup_statu:n=2", "'dup_statu' is not known; there are cancel_race, "),
    ("dup_status:m=2", "'m=2' is not a field=value of dup_status; its fields are n; its aim is client, ref,"),
    ("dup_status:n", "'n' is not a field=value"), ("dup_status:n=33", "n: Expected `int` <= 9"),
    ("dup_status:n=x", "n: Expected `int`, got `str`"), ("missing_end:end=56", "allowed are 52, 53, 54"),
    ("link:dt=nan", "dt: Expected `float`, got `str`"), ("link:dt=-1", "dt: Expected `float` >= 0"),
    ("link:clock=25:00", "clock: Expected `str` matching"), ("link:ref=x", "ref needs a message"),
    ("link:clock=10:00,at=3", "not both"), ("exec_correction:ticks=0", "corrects nothing"),
    ("dup_status:message=orderstatus", "did you mean orderStatus?"), ("dup_status:chance=2", "chance: Expected"),
    ("dup_status:message=openOrder", "dup_status acts on orderStatus only, not on openOrder"),
    ("drop_before_ack:order=maybe", "allowed are reached, lost"), ("", "'' is not known")])
def test_a_bad_fault_is_refused_in_one_sentence(text, said):
    with pytest.raises(FaultError) as problem:
        read_fault(text)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)
    with pytest.raises(CommandError) as refused:
        serve(True, faults=[text])
    assert said in str(refused.value)


STORY = """
title = "a bad day"
[[quote]]
symbol = "AAPL"
last = 100
[[fault]]
name = "drop_before_ack"
order = "lost"
after = 3
[[step]]
when = { placed = "one" }
after = 2
fault = { name = "link", dt = 5, restored = 1101, fills = "one" }
"""


def test_a_scenario_sets_faults_from_the_start_and_by_a_step(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text(STORY)
    gateway = make_gateway(GatewaySettings(scenario=str(file)), Journal(keep=True), START_NS)
    raw = RawClient(gateway)
    raw.send(*place(1, lmt="90", ref="one"))
    for second in (0, 1):
        gateway.advance(START_NS + second * NS)
        assert not gateway.link.down
    for second in (2, 3, 4, 5, 7):
        gateway.advance(START_NS + second * NS)
    codes = [m[3] for m in raw.read() if m[0] == "4"]
    assert codes == ["1100", "2103", "2105", "2157", "1101", "2104", "2106", "2158"]
    assert [e["orderRef"] for e in executions(gateway.journal.lines)] == ["one"]
    raw.send(*place(2, lmt="90", ref="two"))
    raw.send(*place(3, lmt="90", ref="three"))
    assert raw.session.closing
    assert [p["orderRef"] for p in placements(gateway.journal.lines)] == ["one", "two"]


@pytest.mark.parametrize(("change", "said"), [
    (('order = "lost"', 'order = "eaten"'), "bad.toml:6: field fault[0].order: Invalid enum value"),
    (('name = "drop_before_ack"', 'name = "drop"'), "bad.toml:7: field fault[0].name"),
    (("after = 3", "aftr = 3"), "field fault[0]: Object contains unknown field `aftr`"),
    (("dt = 5, ", 'clock = "1", '), "field step[0].fault.clock"),
    (('fills = "one"', 'ref = "one"'), "bad.toml:13: field step[0].fault: fault link: ref needs a message"),
    (("after = 3", 'message = "placeordr"'), "did you mean placeOrder?")])
def test_a_bad_fault_in_a_scenario_is_refused_with_file_line_and_rule(change, said):
    with pytest.raises(ScenarioError) as problem:
        parse(STORY.replace(*change), "bad.toml")
    assert said.replace("bad.toml:6", "bad.toml:8") in str(problem.value)


def test_drawn_faults_are_the_seed_s_cover_all_kinds_and_spare_most():
    assert draw(3, 0.1) == draw(3, 0.1) != draw(4, 0.1)
    assert draw(3, 0) == []
    many = [draw(seed, 0.1) for seed in range(40)]
    assert {fault.kind for faults in many for fault in faults} == set(KINDS)
    assert all(fault.chance <= 0.2 for faults in many for fault in faults)
    assert 5 < sum(len(faults) for faults in many) / 40 < 28


def test_without_a_rate_no_fault_is_even_drawn(monkeypatch):
    monkeypatch.setattr(reading.random, "Random", lambda seed: pytest.fail("dice for nothing"))
    assert draw(3, 0) == []


# nothing set ------------------------------------------------------------------------------------------------------

def session_bytes(gateway) -> bytes:
    """Play a session of everything that clients do, and return every byte that they were sent."""
    out = b""
    one, two = RawClient(gateway, 1, start=False), RawClient(gateway, 2, start=False)
    requests = [(61, 1), (5, 1), (16, 1), (99, 0), (6, 2, 1, "DU1000001"), (76, 1, 5, "DU1000001", "", 0),
                (7, 3, 6, 0, "", "", "", "", "", ""), (1, 11, 7, *AAPL, "0", "", "0", "0", ""), (49, 1),
                place(30, lmt="90"), place(31, lmt="101"), place(32, "SELL", lmt="130", group="g"),
                place(33, "SELL", kind="STP", aux="80", group="g"), (4, 1, 30, ""), (4, 1, 77, ""), (999, 1)]
    from actors.venue.simulator.wire import encode, frame
    for n, client in enumerate((one, two)):
        client.session.receive(b"API\0" + frame(b"v157..176") + encode(71, 2, n + 1, ""), START_NS)
        for fields in requests:
            client.session.receive(encode(*fields), START_NS)
            out += client.session.take()
    contract = gateway.contracts.named("AAPL")
    for second in range(1, 20):
        now = START_NS + second * NS
        gateway.advance(now)
        gateway.trade(contract, Trade(D(100 + second), D(100), now), now)
        out += one.session.take() + two.session.take()
    return out


def test_with_no_fault_that_fits_not_one_byte_is_different():
    none = session_bytes(memory_gateway(fault_seed=1))
    asleep = [f"{name}:client=77" if name not in EVENTS else f"{name}:at=86400" for name in KINDS]
    assert session_bytes(gateway_with(*asleep)) == none
    assert len(none) > 10_000
    touched = session_bytes(gateway_with("dup_status:client=1"))
    assert touched != none


EVENTS = ("half_open", "farm_flap", "link", "restart", "manual_order", "other_client_fill", "unsolicited_cancel")


def test_no_fault_costs_no_time():
    def seconds(gateway) -> float:
        raw = RawClient(gateway)
        from actors.venue.simulator.wire import encode
        frames = [encode(*place(n, lmt="90", ref=f"r{n}")) for n in range(1, 400)]
        began = time.process_time()
        for data in frames:
            raw.session.receive(data, START_NS)
        return time.process_time() - began

    gateway = memory_gateway()
    assert not gateway.faults.active
    bare = min(seconds(memory_gateway()) for _ in range(3))
    watched = min(seconds(gateway_with("dup_status:client=77")) for _ in range(3))
    assert watched < 5 * bare, "even a fault that is set and does not fit costs little"


# the pace ---------------------------------------------------------------------------------------------------------

def test_the_third_request_beyond_fifty_a_second_disconnects():
    raw = RawClient(memory_gateway(pacing_limit=50))
    told = [raw.send(8, 1, 1) for _ in range(53)]
    assert [ids(m) for m in told] == [["9"]] * 50 + [["4"]] * 3
    assert {m[0][3] for m in told[50:]} == {"100"}
    assert raw.session.closing


def test_with_paceapi_the_gateway_slows_instead_and_keeps_the_order():
    gateway = memory_gateway(pacing_limit=50)
    raw = RawClient(gateway, hello=b"v157..176 +PACEAPI")
    for n in range(1, 121):
        raw.send(*place(n, lmt="50", ref=f"r{n}"))
    assert len(placements(gateway.journal.lines)) == 50
    for second, arrived in ((0.5, 50), (1, 100), (1.5, 100), (2, 120)):
        gateway.advance(START_NS + int(second * NS))
        assert len(placements(gateway.journal.lines)) == arrived
    assert [p["orderRef"] for p in placements(gateway.journal.lines)] == [f"r{n}" for n in range(1, 121)]
    assert not [m for m in raw.read() if m[0] == "4"]
    assert not raw.session.closing


def test_what_waits_for_its_turn_dies_with_the_connection():
    gateway = memory_gateway(pacing_limit=50)
    raw = RawClient(gateway, hello=b"v157..176 +PACEAPI")
    for n in range(1, 60):
        raw.send(*place(n, lmt="50"))
    gateway.disconnect(raw.session, START_NS)
    gateway.advance(START_NS + 5 * NS)
    assert len(placements(gateway.journal.lines)) == 50


def test_there_are_32_clients_and_no_more():
    gateway = memory_gateway()
    clients = [RawClient(gateway, n) for n in range(33)]
    assert [c.session.closing for c in clients] == [False] * 32 + [True]
    assert "32 clients" in clients[-1].seen[-1][4]
