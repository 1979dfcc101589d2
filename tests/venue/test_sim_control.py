"""The control interface: faults, prices and orders while the gateway runs; a token or nothing."""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack, contextmanager

import pytest

from actors.venue.simulator import control_server
from actors.venue.simulator.control import Control, ControlError
from actors.venue.simulator.control_server import MAX_LINE_BYTES
from actors.venue.simulator.journal import executions, final_orders, select
from tests.venue.driver import GatewayThread
from tests.venue.gateway_fixture import DEADLINE_S, RawClient, gateway_process
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.integration


class Stage:
    def __init__(self, served: GatewayThread) -> None:
        self.served = served
        assert served.server.control is not None
        self.port, self.token = served.server.control.port, served.server.control.token
        self.client: RawClient = served.do(lambda gateway, now: RawClient(gateway, now=now))

    def send(self, *fields):
        def work(gateway, now):
            self.client.now = now
            return self.client.send(*fields)

        return self.served.do(work)

    @property
    def lines(self):
        return self.served.do(lambda gateway, now: list(gateway.journal.lines))


@pytest.fixture
def stage():
    with GatewayThread(control=0) as served:
        yield Stage(served)


@contextmanager
def wire(port: int):
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        yield sock, sock.makefile("rb")


def test_a_fault_is_set_listed_and_removed_while_the_gateway_runs(stage):
    with Control(stage.port, stage.token) as control:
        one = control.fault("dup_status:n=3,ref=a*")
        two = control.fault({"name": "late_commission", "dt": "never"})
        stage.send(*place(1, lmt="50", ref="abc"))
        listed = {f["number"]: f for f in control.faults()}
        assert listed[one] == {"number": one, "name": "dup_status", "n": 3, "ref": "a*", "met": 2, "acted": 2,
                               "spent": False}
        assert listed[two]["name"] == "late_commission"
        control.remove(one)
        assert [f["number"] for f in control.faults()] == [two]
        control.remove()
        assert control.faults() == []
    assert [line["do"] for line in select(stage.lines, "control")] == ["fault_text", "fault", "remove", "remove"]


def test_prices_and_orders_are_moved_from_outside(stage):
    for n, ref in enumerate(("fills", "partly", "rejected", "cancelled", "jumped"), 1):
        stage.send(*place(n, lmt="90", ref=ref))
    with Control(stage.port, stage.token) as control:
        control.fill("fills")
        control.fill("partly", quantity=40, price="89.5")
        control.reject("rejected", reason="no more")
        control.cancel("cancelled")
        control.refuse_next("next*", code=201, reason="Order rejected - reason:not today")
        control.halt("AAPL")
        control.halt("AAPL", 0)
        assert {o["ref"] for o in control.status()["orders"]} == {"partly", "jumped"}
        control.price("AAPL", last="88.5")
        status = control.status()
        assert status["orders"] == []
        assert status["positions"] == [{"account": "DU1000001", "symbol": "AAPL", "quantity": "300"}]
        assert [c["client_id"] for c in status["clients"]] == [1]
        assert (status["link"], status["away"]) == ("up", False)
    stage.send(*place(6, lmt="80", ref="next.one"))
    last = {ref: line["status"] for ref, line in final_orders(stage.lines).items()}
    assert last == {"fills": "Filled", "partly": "Filled", "rejected": "Inactive", "cancelled": "Cancelled",
                    "jumped": "Filled", "next.one": "Inactive"}
    assert [(e["quantity"], e["price"]) for e in executions(stage.lines)][:2] == [("100", "90"), ("40", "89.5")]


def test_a_client_is_disconnected_from_outside(stage):
    with Control(stage.port, stage.token) as control:
        assert control.disconnect(7) == 0
        assert control.disconnect(1) == 1
    assert stage.client.session.closing


@pytest.mark.parametrize(("do", "args", "said"), [
    ("zap", {}, "'zap' is not known; there are cancel, disconnect, fault,"),
    ("fault", {"name": "dup"}, "name 'dup' is not known"), ("fault", {"name": "dup_status", "n": 77}, "n: Expected"),
    ("fault_text", {"text": "dup_status:x=1"}, "its fields are n"),
    ("fault", {"name": "manual_order", "contract": "NOPE"}, "contract 'NOPE' is not known"),
    ("remove", {"number": 5}, "no fault has the number 5"), ("price", {"symbol": "NOPE", "last": 1}, "not known"),
    ("price", {"symbol": "AAPL"}, "at least one of last, bid and ask"),
    ("price", {"symbol": "AAPL", "last": -1}, "price.last: -1 is not above 0"),
    ("fill", {"order_ref": "nobody"}, "no live order fits 'nobody'"), ("fill", {"ref": "x"}, "unknown field"),
    ("halt", {"symbol": "AAPL", "halted": 9}, "<= 2"), ("status", {"x": 1}, "unknown field")])
def test_a_command_that_cannot_be_obeyed_is_refused_and_changes_nothing(stage, do, args, said):
    with Control(stage.port, stage.token) as control:
        with pytest.raises(ControlError) as problem:
            control.do(do, **args)
        assert said in str(problem.value)
        assert control.faults() == []
    assert select(stage.lines, "control") == []


@pytest.mark.parametrize("first", [b'{"token": "wrong"}\n', b"POST / HTTP/1.1\r\n", b"\n", b'{"do": "status"}\n',
                                   b'{"token": 5}\n', b"\xff\xfe\n", b"x" * (MAX_LINE_BYTES + 10)])
def test_without_the_token_there_is_nothing(stage, first):
    with wire(stage.port) as (sock, file):
        sock.sendall(first)
        said = file.readline()
        assert said == b"" or json.loads(said)["ok"] is False
        assert file.readline() == b""
    with pytest.raises(ControlError, match="right token"):
        Control(stage.port, stage.token + "x")
    with Control(stage.port, stage.token) as control:
        assert control.status()["link"] == "up"


def test_broken_lines_after_the_token_are_answered(stage):
    with wire(stage.port) as (sock, file):
        sock.sendall(json.dumps({"token": stage.token}).encode() + b"\n[1]\n{}\n{\"do\": 5}\nnonsense\n")
        answers = [json.loads(file.readline()) for _ in range(5)]
    assert [a["ok"] for a in answers] == [True, False, False, False, False]
    assert all(a["error"] for a in answers[1:])


def test_the_announcement_names_the_port_and_the_token_unless_a_file_holds_it(tmp_path):
    held = tmp_path / "token"
    held.write_text("a-token-of-some-length\n")
    held.chmod(0o600)
    with GatewayThread(control=0) as served:
        line = served.server.announcement()
        assert Control(line["control"], line["token"]).status()["clients"] == []
    with gateway_process(control=0, control_token_file=str(held), journal=str(tmp_path / "j")) as (_, port):
        started = [json.loads(text) for text in (tmp_path / "j").read_text().splitlines()]
        settings = next(line for line in started if line["msg"] == "gateway_started")
        assert settings["port"] == port
        assert "a-token" not in (tmp_path / "j").read_text()


@pytest.mark.parametrize(("mode", "text", "said"), [
    (0o644, "a-token-of-some-length", "mode 0600"), (0o600, "short", "holds 5 characters"),
    (None, "", "cannot be read")])
def test_a_token_file_that_others_may_read_is_refused(tmp_path, mode, text, said):
    held = tmp_path / "token"
    if mode is not None:
        held.write_text(text)
        os.chmod(held, mode)
    with pytest.raises(ValueError, match=said), GatewayThread(control=0, control_token_file=str(held)):
        pass


def test_a_control_port_in_use_is_told_in_one_sentence(stage):
    with pytest.raises(ValueError, match=rf"--control {stage.port}: .*in use"), GatewayThread(control=stage.port):
        pass


def test_strangers_cannot_use_up_the_places(stage, monkeypatch):
    monkeypatch.setattr(control_server, "HELLO_S", 0.05)
    with GatewayThread(control=0) as served, ExitStack() as open_:
        port = served.server.control.port
        silent = [open_.enter_context(wire(port)) for _ in range(control_server.MAX_CONNECTIONS + 4)]
        answers = sorted(file.readline() for _, file in silent)
        assert answers[:-4] == [b""] * control_server.MAX_CONNECTIONS, "who says nothing is cut off"
        assert b"there can be no more" in answers[-1]
        with Control(port, served.server.control.token) as control:
            assert control.status()["orders"] == []


@pytest.mark.parametrize("line", [
    b'{"do":"status","args":' + b"[" * 20_000, b'{"do":"fault","args":{"name":{}}}',
    b'{"do":"fault","args":{"name":[1]}}', b'{"do":"price","args":{"symbol":"AAPL","last":"1e999999"}}',
    b'{"do":"fill","args":{"order_ref":"[","price":1e308}}'])
def test_a_line_of_nonsense_is_answered_and_the_connection_lives(stage, line):
    with wire(stage.port) as (sock, file):
        sock.sendall(json.dumps({"token": stage.token}).encode() + b"\n")
        assert json.loads(file.readline())["ok"]
        sock.sendall(line + b"\n")
        assert json.loads(file.readline())["ok"] is False
        sock.sendall(b'{"do":"status"}\n')
        assert json.loads(file.readline())["ok"]
