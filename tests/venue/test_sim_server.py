"""The gateway as a process of its own: signals, the parent's death, hostile sockets, the journal after a kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from decimal import Decimal as D

import ib_insync
import msgspec
import pytest

from actors.cli.common import CommandError
from actors.cli.gateway import serve as serve_until_ended
from actors.cli.gateway import settings_from
from actors.venue.simulator import scenario
from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.journal import Journal, final_orders, placements, read_journal, select
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.scenario import ScenarioError
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.wire import encode, frame
from tests.venue.gateway_fixture import (
    DEADLINE_S,
    ROOT,
    START_NS,
    client_of,
    gateway_process,
    gateway_server,
    run,
    until,
)
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.integration


def dial(port: int, hello: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
    if hello:
        sock.sendall(hello)
    return sock


def read_until(sock: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        more = sock.recv(65536)
        assert more, f"closed before {wanted!r} came; got {data[-200:]!r}"
        data += more
    return data


def wait_for_file(condition, what: str):
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.01)
    return value


HELLO = b"API\0" + frame(b"v157..176") + encode(71, 2, 1, "")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(how, tmp_path):
    journal = tmp_path / "j.jsonl"
    with gateway_process(journal=str(journal)) as (process, port), dial(port, HELLO) as sock:
        read_until(sock, b"2158")
        process.send_signal(how)
        assert process.wait(DEADLINE_S) == 0
        while sock.recv(65536):     # what it had said before, to the end
            pass
    messages = [line["msg"] for line in read_journal(journal)]
    assert messages[0] == "gateway_started"
    assert messages[-1] == "gateway_stopped"


def test_the_journal_is_whole_after_a_kill(tmp_path):
    journal = tmp_path / "j.jsonl"
    with gateway_process(journal=str(journal)) as (process, port):
        sock = dial(port, HELLO + b"".join(encode(*place(n, lmt="50", ref=f"r.{n}")) for n in range(1, 51)))
        wait_for_file(lambda: len(placements(read_journal(journal))) == 50, "fifty placements in the journal")
        process.kill()
        process.wait(DEADLINE_S)
        sock.close()
    assert [p["orderRef"] for p in placements(read_journal(journal))] == [f"r.{n}" for n in range(1, 51)]


def test_it_dies_with_its_parent(tmp_path):
    journal = tmp_path / "j.jsonl"
    settings = json.dumps({"announce": True, "die_with_parent": True, "journal": str(journal)})
    parent_code = ("import subprocess, sys, time; "
                   "p = subprocess.Popen([sys.executable, '-m', 'actors.venue.simulator', "
                   f"{settings!r}], stdout=subprocess.PIPE, text=True); print(p.pid, p.stdout.readline(), flush=True); "
                   "time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", parent_code], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert parent.stdout is not None
    pid, _, announced = parent.stdout.readline().partition(" ")
    assert json.loads(announced)["event"] == "listening"
    parent.kill()
    parent.wait(DEADLINE_S)
    parent.stdout.close()
    wait_for_file(lambda: select(read_journal(journal), "gateway_stopped"), f"the end of gateway {pid}")


@pytest.mark.parametrize(("settings", "said"), [
    ({"scenario": "nope"}, "scenario 'nope' is not known"), ({"replay": "/nowhere.csv", "symbol": "SPY"}, "the day is"),
    ({"scenario": "target", "replay": "x"}, "both are given"), ({"prot": 1}, "prot"), ({"accounts": []}, "account"),
    ({"accounts": ["DU1,DU2"]}, "accounts[0]"), ({"port": 65536}, "port"), ({"control": -1}, "control"),
    ({"journal": "/nowhere/x.jsonl"}, "journal /nowhere/x.jsonl: cannot be opened"), ({"to": "10:00"}, "--to '10:00'"),
    ({"symbol": "SPY"}, "--symbol 'SPY'")])
def test_settings_that_cannot_be_used_end_it_with_one_sentence(settings, said):
    done = subprocess.run([sys.executable, "-m", "actors.venue.simulator", json.dumps(settings)], cwd=ROOT,
                          capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_it_listens_on_loopback_only_and_says_when_a_port_is_taken():
    async def story():
        async with gateway_server() as server:
            assert server._server.sockets[0].getsockname()[0] == "127.0.0.1"
            with pytest.raises(OSError, match=r"(?i)in use"):
                async with gateway_server(port=server.port):
                    pass

    run(story)


def test_hostile_sockets_disturb_nobody():
    async def story():
        async with gateway_server() as server, client_of(ib_insync, server) as ib:
            junk = [b"GET / HTTP/1.1\r\n\r\n", b"API\0\xff\xff\xff\xff", b"API\0" + frame(b"v157..176") + b"\0\0\0\0",
                    b"API\0" + frame(b"x" * 60000), os.urandom(5000), b"API\0" + frame(b"v157..176") + b"\0\1\0\1", b""]
            socks = [dial(server.port, data) for data in junk]
            await until(lambda: len(select(server.gateway.journal.lines, "bad_bytes")) >= 6, "six refusals")
            assert (await ib.reqCurrentTimeAsync()).year >= 2025
            for sock in socks:
                sock.close()
            await until(lambda: len(server.connections) == 1, "the strangers to be gone")

    run(story)


def test_a_client_that_hangs_up_in_mid_frame_leaves_its_orders_and_frees_its_id():
    async def story():
        async with gateway_server() as server:
            sock = dial(server.port, HELLO + encode(*place(1, lmt="50", ref="stay")) + b"\0\0\1\0half")
            await until(lambda: placements(server.gateway.journal.lines), "the order")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
            await until(lambda: not server.gateway.by_client, "the client id to be free")
            assert final_orders(server.gateway.journal.lines)["stay"]["status"] == "Submitted"
            async with client_of(ib_insync, server, 1) as ib:
                assert [t.order.orderRef for t in ib.openTrades()] == ["stay"]

    run(story)


def test_the_seeded_walk_is_the_same_for_the_same_seed():
    async def prices(seed: int) -> list[str]:
        from tests.venue.gateway_fixture import NS, START_NS, memory_gateway
        gateway = memory_gateway(seed=seed, walk_interval=1)
        seen = []
        for n in range(1, 20):
            gateway.advance(START_NS + n * NS)
            seen.append(str(gateway.exchange.quote_of(265598).last))
        return seen

    one, two, other = run(lambda: prices(7)), run(lambda: prices(7)), run(lambda: prices(8))
    assert one == two != other
    assert len(set(one)) > 5


@pytest.mark.parametrize(("settings", "said"), [
    ({"walk_interval": D(0)}, "walk_interval 0: expected a number from 0.001"),
    ({"walk_interval": D("inf")}, "walk_interval"), ({"cash": D("nan")}, "cash NaN"),
    ({"hello_seconds": D("nan")}, "hello_seconds"), ({"accounts": ("DU1", "DU1")}, "'DU1'.*each but once"),
    ({"accounts": ("a,b",)}, "'a,b'"), ({"accounts": ("",)}, "account ''"), ({"exec_prefix": "a.b"}, "exec_prefix")])
def test_settings_that_make_no_sense_are_refused_by_name(settings, said):
    with pytest.raises(ValueError, match=said):
        make_gateway(GatewaySettings(**settings), Journal(), START_NS)


def test_a_rate_that_makes_no_sense_is_refused_by_name():
    with pytest.raises(ValueError, match="commission_minimum NaN"):
        ExchangeRules(commission_minimum=D("nan"))


@pytest.mark.parametrize("field", ["max_clients", "pacing_limit", "lockstep_batch"])
def test_counts_below_zero_are_refused_by_name(field):
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert({field: -1}, GatewaySettings)


@pytest.mark.parametrize("text", ["seed = " + "[" * 5000, "seed = " + "9" * 5000])
def test_a_file_that_breaks_the_reader_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(CommandError, match="cannot be used as gateway settings"):
        settings_from(str(path), (), {})
    with pytest.raises(ScenarioError, match=r"broken\.toml:1: not TOML"):
        scenario.load(str(path))


def test_a_journal_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(CommandError, match=f"journal {tmp_path}: cannot be opened: Is a directory"):
        serve_until_ended(False, port=0, journal=str(tmp_path))
