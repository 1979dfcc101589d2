"""`doctor --probe` against our gateway: it tells each harder answer from the easier one, and leaves nothing behind."""

from __future__ import annotations

import json
import time

import pytest

import run as command_line
from actors.venue import probe
from actors.venue.ib import IbVenue
from actors.venue.probe import CLIENT_ID, QUESTIONS, Findings, Probe, ProbeError
from actors.venue.simulator.orders import ExchangeRules
from tests.venue.driver import DEADLINE_S, GatewayThread

pytestmark = pytest.mark.integration
EASIER = {"oca_amend": True, "oca_late_join": True, "oca_cancel_cascade": False, "oca_refuse_filled_group": False,
          "option_both_sides": True, "lower_ids": True, "stop_outside_rth": True}
HARDER = {name: not value for name, value in EASIER.items()}


def ask(rules: dict[str, bool], trade: bool = True, **settings) -> tuple[Findings, GatewayThread]:
    with GatewayThread(rules=ExchangeRules(**rules), **settings) as served:
        venue = IbVenue("ib_insync")
        try:
            found = Probe(venue, "SPY", trade=trade).run("127.0.0.1", served.port)
        finally:
            venue.close()
        assert served.do(lambda gateway, now: gateway.exchange.open_orders()) == []
        held = served.do(lambda gateway, now: [p.quantity for p in gateway.exchange.accounts.positions.values()])
        assert sum(held) == 0
        return found, served


def test_every_question_is_a_switch_of_the_simulator():
    assert {question.switch for question in QUESTIONS} == set(EASIER) <= set(ExchangeRules.__struct_fields__)


@pytest.mark.parametrize(("rules", "answer"), [(HARDER, "harder"), (EASIER, "easier")])
def test_the_probe_tells_every_answer_from_its_opposite_and_cleans_up(rules, answer, monkeypatch):
    if answer == "easier":
        # These answers are a silence, which is as right after a short wait.
        monkeypatch.setattr(probe, "SETTLE_S", 0.2)
    found, _ = ask(rules)
    assert {a.name: a.answer for a in found.answers} == {question.name: answer for question in QUESTIONS}
    assert found.left == ()
    assert (found.account, found.server_version) == ("DU1000001", 176)


@pytest.mark.parametrize(("account", "port", "said"), [
    ("U1234567", None, "not a paper account"), ("DU1000001", 7496, "live trading"), ("DU1000001", 1, "Refused")])
def test_it_asks_paper_gateways_only_and_says_why_it_does_not(account, port, said):
    with GatewayThread(accounts=(account,)) as served:
        venue = IbVenue("ib_insync")
        with pytest.raises(ProbeError, match=said):
            Probe(venue, "SPY").run("127.0.0.1", port or served.port)
        venue.close()
        assert served.placed() == []


def test_a_second_probe_is_told_that_the_client_id_is_in_use():
    with GatewayThread() as served:
        first = IbVenue("ib_insync")
        first.connect("127.0.0.1", served.port, CLIENT_ID)
        deadline = time.monotonic() + DEADLINE_S
        while not first.connected and time.monotonic() < deadline:
            first.pump(time.time_ns())
        assert first.connected
        second = IbVenue("ib_insync")
        with pytest.raises(ProbeError, match="in use"):
            Probe(second, "SPY").run("127.0.0.1", served.port)
        first.close()
        second.close()


def test_the_command_stores_what_was_answered_with_where_and_when(tmp_path, capsys):
    with GatewayThread() as served:
        arguments = ["doctor", "--probe", "--gateway", f"127.0.0.1:{served.port}", "--state", str(tmp_path / "new")]
        assert command_line.main([*arguments, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert served.do(lambda gateway, now: gateway.exchange.executed) == 0, "nobody allowed it to trade"
        assert command_line.main([*arguments, "--price", "0"]) == 2
        live = ["doctor", "--probe", "--gateway", "127.0.0.1:4001", "--state", str(tmp_path)]
        assert command_line.main(live) == 1
        assert "live trading" in capsys.readouterr().err
    stored = json.loads((tmp_path / "new" / "probe.json").read_text())
    assert stored == {key: value for key, value in printed.items() if key != "path"}
    assert printed["path"] == str(tmp_path / "new" / "probe.json")
    assert (stored["account"], stored["server_version"], stored["left"]) == ("DU1000001", 176, [])
    assert {a["name"] for a in stored["answers"]} == {question.name for question in QUESTIONS}
    answers = {a["name"]: a["answer"] for a in stored["answers"]}
    assert answers["filled_group"] == "not asked"
    assert answers["late_join"] == "easier", "the simulator's default"
    assert not list(tmp_path.glob("*.json")), "a refused probe stores nothing"
