"""Sessions, ids, many clients, refusals and killed processes, at a whole engine.

Each test names the rows that it shows; docs/requirements.md lists them. The engines are those of conftest.py.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from actors.rules.intake import Refused as IntakeRefused
from actors.rules.intake import check_intent
from actors.venue.simulator.journal import executions, placements, select
from actors.venue.simulator.journal_checks import violations
from actors.web.client import Refused
from messages.intent import Intent
from messages.settings import load_settings
from storage.reader import Reader
from tests import hostile
from tests.e2e.engines import PATIENCE_S, cli, marked, wait_for
from tests.e2e.playground import Playground, armed

pytestmark = [pytest.mark.integration, pytest.mark.compliance]


# -- the session, ids, fills ---------------------------------------------------------------------------------------


def test_the_time_and_the_ids_are_asked_before_anything_is_sent(native):
    """001.B.1, B.5, E.10: client 1; reqCurrentTime, then reqIds, then the picture, then the first order."""
    native.market.await_live(native.submit(native.symbol()) + ".entry")
    asked = [line for line in native.lines if line["dir"] == "in"]
    names = [line["msg"] for line in asked]
    first = {name: names.index(name) for name in ("reqCurrentTime", "reqIds", "reqAllOpenOrders", "reqExecutions",
                                                  "reqCompletedOrders", "reqPositions", "placeOrder")}  # fmt: skip
    assert first["reqCurrentTime"] == 0
    assert first["reqIds"] < min(first[name] for name in first if name not in ("reqCurrentTime", "reqIds"))
    assert max(first.values()) == first["placeOrder"]
    assert {line["client"] for line in asked} == {1}


def test_an_execution_is_booked_once_by_everyone_also_after_a_reconnect(native):
    """D.6, 001.B.7, H.1, H.2, H.4, H.6: ledger, position and risk hold the same execution once; fees and ids too."""
    symbol = native.symbol()
    bracket = native.entered(symbol)
    native.await_statuses(bracket, target="active", stop="active")
    wait_for(lambda: not native.story(bracket)["fills"][0]["is_estimate"], what="the reported commission")

    def booked() -> tuple[Any, ...]:
        story = native.story(bracket)
        held = [row["quantity"] for row in native.client.positions() if row["instrument"] == symbol]
        changed = [e for e in native.events() if e["type"] == "PositionChanged"
                   and e["payload"]["instrument"] == symbol]  # fmt: skip
        fills = [(f["execution_id"], f["quantity"], f["price"], f["commission"]) for f in story["fills"]]
        return fills, held, native.net(symbol), [e["key"] for e in changed]

    wait_for(lambda: booked()[1:3] == (["100"], 100), what="position and risk to have booked it")
    fills, held, net, keys = before = booked()
    (execution,) = executions(native.lines, f"{bracket}.*")
    assert fills == [(execution["execId"].rpartition(".")[0], "100", "100", "1")]
    assert (held, net, len(keys)) == (["100"], 100, 1)
    native.reconnect()
    assert booked() == before
    assert len(placements(native.lines, f"{bracket}.*")) == 3
    rows = native.rows(bracket).values()
    assert {(row["client_id"], row["perm_id"] is not None) for row in rows} == {(1, True)}
    types = {event["type"] for event in native.story(bracket)["events"]}
    assert {"OrderAccepted", "OrderFilled", "CommissionReported"} <= types
    native.client.flatten(bracket)
    native.await_phase(bracket)


def test_ids_never_come_back_even_where_the_gateway_forgets(tmp_path):
    """001.E.3, E.12: a gateway that begins again at 1 is told ids above all that were ever used."""
    ground = Playground(tmp_path)
    try:
        symbol = ground.symbol()
        ground.await_phase(ground.submit(symbol, shape="single", exits=..., order_type="MKT", limit_price=...))
        used = [line["orderId"] for line in placements(ground.lines)]
        ground.engine.end(signal.SIGKILL)
        ground.market.stop()
        ground.market = type(ground.market)()
        assert ground.market.gateway.exchange.next_id(1) == 1
        ground.start()
        other = ground.market.list("OTHER")
        ground.market.await_live(ground.submit(other) + ".entry")
        (again,) = placements(ground.lines)
        assert again["orderId"] > max(used)
    finally:
        ground.stop()


# -- one system, many clients --------------------------------------------------------------------------------------


def test_many_clients_at_once_get_what_each_asked_for(native):
    """000.U.2, D.3, D.5, D.9: two strategies in eight threads; every order whole, on one session, one actor each."""
    before = set(native.facts("router")["bracket_ids"])
    symbols = [native.symbol() for _ in range(8)]

    def work(number: int) -> list[str]:
        strategy = ("Momentum_EQ", "0DTE_Scalp")[number % 2]
        mine = [native.submit(symbols[number], strategy=strategy) for _ in range(3)]
        for bracket in mine:
            native.market.await_live(f"{bracket}.entry")
            assert native.story(bracket)["definition"]["intent"]["strategy"] == strategy
        return mine

    with ThreadPoolExecutor(8) as pool:
        made = [bracket for mine in pool.map(work, range(8)) for bracket in mine]
    assert len(set(made)) == 24
    assert set(native.facts("router")["bracket_ids"]) - before == set(made)
    lines = native.lines
    sent = [line for line in placements(lines) if line["orderRef"].split(".")[0] in made]
    assert sorted(line["orderRef"] for line in sent) == sorted(f"{bracket}.entry" for bracket in made)
    assert [line for line in lines if line["msg"] in ("bad_bytes", "gateway_fault")] == []
    for bracket in made:
        wait_for(lambda b=bracket: native.rows(b)["entry"]["state"] == "PLACED")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(native.client.cancel, made))
    for bracket in made:
        native.await_phase(bracket)


def test_a_signal_is_one_bracket(native):
    """Issue point 3, 001.C.22: the same content is the same bracket, other content is refused; one order either way."""
    intent = native.intent(native.symbol())
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(native.client.submit, [intent] * 8))
    assert len({answer.bracket_id for answer in answers}) == 1
    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 7
    with pytest.raises(Refused) as refused:
        native.client.submit({**intent, "limit_price": "99"})
    assert (refused.value.code, refused.value.status) == ("signal_reused", 409)
    native.market.await_live(f"{answers[0].bracket_id}.entry")
    assert len(placements(native.lines, f"{answers[0].bracket_id}.*")) == 1
    native.client.flatten(answers[0].bracket_id)
    native.await_phase(answers[0].bracket_id)


def test_the_stream_is_the_database_in_order_without_a_gap(native):
    """003.L.4, A.2, 000.E.5: every committed event comes once, by its number; each transition is among them."""
    bracket = native.entered(native.symbol())
    native.await_statuses(bracket, target="active", stop="active")
    native.client.flatten(bracket)
    native.await_phase(bracket)
    events = [event for event in native.events() if event["seq"] is not None]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    mine = [event for event in events if event["bracket_id"] == bracket]
    stored = native.story(bracket)["events"]
    assert [event["key"] for event in mine][: len(stored)] == [event["key"] for event in stored][: len(mine)]
    seen = [event["payload"]["status"] for event in mine if event["payload"].get("row_id") == f"{bracket}.target"]
    assert list(dict.fromkeys(seen)) == ["ready", "active", "canceled"]
    numbers = [value for event in events for name, value in event["payload"].items() if name.endswith(("px", "price"))]
    assert "100" in numbers
    assert not any("E" in value for value in numbers if isinstance(value, str))      # money is written without exponent


def test_nothing_is_polled(native):
    """003.A.5: with orders at work and a market that stands still, the gateway is asked nothing but the time."""
    bracket = native.entered(native.symbol())
    native.await_statuses(bracket, target="active", stop="active")
    symbols = {native.story(bracket)["instrument"]}
    wait_for(lambda: symbols <= {line["symbol"] for line in select(native.lines, "reqMktData", "in")}, what="the feed")
    quiet: list[int] = []

    def nothing_on_its_way() -> bool:
        """Brackets of other tests may still be ending, and this one's questions be answered."""
        quiet.append(sum(line["dir"] == "in" and line["msg"] != "reqCurrentTime" for line in native.lines))
        return len(quiet) > 15 and quiet[-1] == quiet[-15]

    wait_for(nothing_on_its_way, what="a moment without a request")
    before = len(native.lines)
    time.sleep(1.5)
    asked = {line["msg"] for line in native.lines[before:] if line["dir"] == "in"}
    feeds = {"cancelMktData", "cancelTickByTickData"}                # those of other tests, given up after a while
    assert asked - feeds <= {"reqCurrentTime"}
    native.client.flatten(bracket)
    native.await_phase(bracket)


# -- refusals, verbs, and what a person or the venue does ----------------------------------------------------------

UNBUILT = {
    "urgency": "High", "max_slippage_bps": "10", "expiry_policy": "close_before_market_close", "session": "extended",
    "instrument": "SPY   240119C00470000",
}  # fmt: skip


@pytest.mark.parametrize("field", UNBUILT)
def test_what_is_not_built_is_refused_in_the_same_words_everywhere(native, field):
    """Issue point 3, "How it is seen": command line, HTTP and actor message say one sentence with the field's name."""
    intent = {**native.intent("AAPL"), field: UNBUILT[field]}
    with pytest.raises(Refused) as refused:
        native.client.submit(intent)
    assert (refused.value.code, refused.value.field) == ("not_built", field)
    said = str(refused.value)
    done = cli("submit", "-", "--state", native.state, stdin=json.dumps(intent))
    assert done.returncode == 1
    assert done.stderr.strip() == said
    message = msgspec.convert(intent, Intent, strict=False)
    with pytest.raises(IntakeRefused) as as_message:
        check_intent(message, load_settings(), time.time_ns())
    assert str(as_message.value) == said


def test_ten_thousand_hostile_payloads_over_http_crash_nothing_and_leave_no_row(native):
    """Issue, "How it is seen": noise and good intents bent out of shape; what is refused leaves nothing behind."""
    reader = Reader(f"sqlite:///{native.state}/bracketeer.db")
    token = (Path(native.state) / "token").read_text().strip()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    where = urlsplit(native.client.url).netloc
    pids = marked(native.engine.mark)
    older = {bracket["bracket_id"] for bracket in reader.brackets(limit=500)}       # of other tests: some still close
    before, last, taken, denied, sent = reader.bracket_counts(), reader.last_seq(), set(), 0, 0
    assert len(older) == sum(before.values()) < 500

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None,
              phases=[Phase.generate])  # fmt: skip
    @given(st.lists(hostile.payloads(), min_size=100, max_size=100))
    def attack(payloads: list[bytes]) -> None:
        nonlocal denied, sent
        connection = http.client.HTTPConnection(where, timeout=PATIENCE_S)
        for payload in payloads:
            connection.request("POST", "/v1/intents", payload, headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
            sent += 1
            if answer.status in (200, 201):
                taken.add(body["bracket_id"])
            else:
                assert answer.status in (400, 409, 413, 422), (payload, body)
                assert body.keys() == {"code", "field", "sentence"}
                assert body["sentence"].isprintable()
                denied += answer.status == 422
        connection.close()

    attack()
    assert sent >= 10_000
    assert marked(native.engine.mark) == pids
    written = [event for event in reader.events_after(last, 100_000) if event.type != "PositionChanged"]
    assert {event.bracket_id for event in written} - {None} - older <= taken
    assert sum(event.type == "IntentDenied" for event in written) <= denied
    assert {event.type for event in written if event.bracket_id is None} <= {"IntentDenied"}
    assert sum(reader.bracket_counts().values()) == sum(before.values()) + len(taken)
    last_one = native.submit(native.symbol())
    native.client.cancel(last_one)
    native.await_phase(last_one)


def test_live_is_refused_in_one_sentence():
    """Issue point 2."""
    done = cli("start", "--live")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "--live" in done.stderr


# -- actors as processes -------------------------------------------------------------------------------------------


def families(mark: str) -> dict[int, list[int]]:
    """Return the children of each living process of an engine, by pid."""
    found: dict[int, list[int]] = {}
    for pid in marked(mark):
        with suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            found.setdefault(parent, []).append(pid)
    return found


def deepest(mark: str) -> list[int]:
    """Return the pids from the oldest ancestor to the youngest child: launcher, root, router, bracket, exit."""
    children = families(mark)

    def longest(pid: int) -> list[int]:
        return [pid, *max((longest(child) for child in children.get(pid, [])), key=len, default=[])]

    alive = set(marked(mark))
    return max((longest(parent)[1:] for parent in children if parent not in alive), key=len)


def test_brackets_supervise_their_children_and_do_not_disturb_each_other(tmp_path):
    """D.3, D.4, D.7: the process of an exit is killed, then that of its bracket; the same row fires, once."""
    ground = Playground(tmp_path, "--base", "multiprocTCPBase")
    try:
        symbol, other = ground.symbol(), ground.symbol()
        first = ground.entered(symbol, exits=[{"trailing_stop": {"amount": "2"}}])
        ground.await_statuses(first, entry="filled")
        wait_for(lambda: symbol in armed(ground), what="an armed trail")
        ground.market.insist(symbol, 106, lambda: [t["stop"] for t in ground.story(first)["trails"]] == ["104"])
        mark = ground.engine.mark
        *_, bracket_pid, trail_pid = deepest(mark)
        os.kill(trail_pid, signal.SIGKILL)
        wait_for(lambda: len(set(families(mark).get(bracket_pid, [])) - {trail_pid}) == 1, what="the child's successor")
        assert deepest(mark)[-2] == bracket_pid                      # the bracket itself lived on
        second = ground.submit(other)
        ground.market.await_live(f"{second}.entry")
        assert set(ground.facts("router")["bracket_ids"]) == {first, second}
        os.kill(bracket_pid, signal.SIGKILL)
        ground.market.fill(f"{second}.entry")                        # meanwhile the other one gets its exits
        ground.await_statuses(second, target="active", stop="active")
        wait_for(lambda: bracket_pid not in marked(mark) and len(deepest(mark)) >= 4, what="the bracket's successor")
        wait_for(lambda: symbol in armed(ground), what="the trail, armed again")
        ground.market.insist(symbol, 104, lambda: placements(ground.lines, f"{first}.trail*"))
        ground.await_phase(first)
        (sent,) = placements(ground.lines, f"{first}.trail*")
        rows = ground.rows(first)
        assert set(rows) == {"entry", "trail"}
        assert (rows["trail"]["status"], rows["trail"]["order_ref"]) == ("filled", sent["orderRef"])
    finally:
        ground.stop()
    assert violations(ground.lines) == []
