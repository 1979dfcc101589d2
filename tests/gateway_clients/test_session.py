"""The fast half of `make gateway-clients`: the libraries of this environment play it, and the judge is judged."""

from __future__ import annotations

import asyncio
import copy
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from actors.venue.simulator.journal import read_journal, select
from actors.venue.simulator.wire import encode, frame
from tests.gateway_clients import environments
from tests.gateway_clients.__main__ import main
from tests.gateway_clients.environments import Client, EnvironmentProblem, clients, command, ready
from tests.gateway_clients.play import Performance, drive, gateway, judged, perform, session
from tests.gateway_clients.relay import carry, relay

pytestmark = pytest.mark.integration
DEADLINE_S = 10.0
PLAYED = (("ib_insync", 176), ("ib_async", 178))


@pytest.fixture(scope="module")
def performances() -> dict[str, Performance]:
    """Both sessions, played side by side in processes of their own."""
    known = {c.name: c for c in clients()}
    with ThreadPoolExecutor() as pool:
        played = {name: pool.submit(perform, known[name], version) for name, version in PLAYED}
        return {name: future.result() for name, future in played.items()}


@pytest.mark.parametrize(("name", "version"), PLAYED)
def test_a_client_ends_with_the_orders_fills_and_positions_of_the_journal(performances, name, version):
    assert judged(performances[name], version) == []


def forget_fill(told: dict[str, Any]) -> None:
    told["fills"].popitem()


def change_price(told: dict[str, Any]) -> None:
    next(iter(told["fills"].values()))["price"] = "1"


def change_average(told: dict[str, Any]) -> None:
    told["orders"]["s.partial"]["average"] = "98.91501"


def change_status(told: dict[str, Any]) -> None:
    told["orders"]["s.protect"]["status"] = "Submitted"


def invent_order(told: dict[str, Any]) -> None:
    told["orders"]["s.other"] = dict(told["orders"]["s.rest"])


def change_position(told: dict[str, Any]) -> None:
    told["positions"]["AAPL"] = "21"


def lose_cash(told: dict[str, Any]) -> None:
    told["account"]["TotalCashValue"] = "1000000"


def swap_messages(told: dict[str, Any]) -> None:
    heard = told["transcript"]["7"]
    at = next(n for n, message in enumerate(heard) if message[0] == "execDetails")
    heard[at], heard[at + 1] = heard[at + 1], heard[at]


def hear_twice(told: dict[str, Any]) -> None:
    told["transcript"]["7"].append(told["transcript"]["7"][-1])


def leave_early(told: dict[str, Any]) -> None:
    told["steps"].pop()


def see_otherwise(told: dict[str, Any]) -> None:
    told["steps"][0]["saw"]["accounts"] = ["DU2"]


def complain(told: dict[str, Any]) -> None:
    told["complaints"].append("ib_insync.decoder: Error for openOrder")


def speak_otherwise(told: dict[str, Any]) -> None:
    told["server_version"] = 157


@pytest.mark.parametrize(("spoil", "said"), [
    (forget_fill, "the client says None"), (change_price, "'price': '1'"), (change_average, "98.91501"),
    (change_status, "order s.protect"), (invent_order, "order s.other: the client has it"),
    (change_position, "position AAPL: the client says 21, the journal 5"),
    (lose_cash, "cash: the client says 1000000"),
    (swap_messages, "of client 7: the gateway said ['execDetails'"), (hear_twice, "the gateway said None"),
    (leave_early, "step 43 disconnect : was not played"), (see_otherwise, "step 1 connect : accounts is ['DU2']"),
    (complain, "complaint: ib_insync.decoder"), (speak_otherwise, "server version 157 was negotiated, not 176")])
def test_the_judge_finds_what_differs(performances, spoil: Callable[[dict[str, Any]], None], said: str):
    played = performances["ib_insync"]
    told = copy.deepcopy(played.told)
    spoil(told)
    found = judged(Performance(played.script, told, played.lines, []), 176)
    assert any(said in difference for difference in found), found


def test_a_client_that_dies_is_a_difference():
    broken = Client(name="broken", driver="nowhere.py", module="nothing", server_versions=(176,))
    trouble: list[str] = []
    told = drive(command(broken, 1), session(), trouble)
    assert "the client ended with 2" in judged(Performance(session(), told, [], trouble), 176)[0]


def test_clients_that_vanish_leave_nothing_unawaited_in_the_gateway(tmp_path):
    """In development mode Python says on stderr what a program has left open (ib-wire.md 15.5)."""
    trouble: list[str] = []
    journal = tmp_path / "j.jsonl"
    aapl = ["265598", "AAPL", "STK", "", "0", "", "", "SMART", "", "USD", "", ""]
    hello = b"API\0" + frame(b"v157..176")
    with gateway(journal, 176, trouble) as port:
        for client_id, last in ((1, b""), (2, b"\0\0\1\0half"), (3, encode(16, 1))):
            sock = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
            sock.sendall(hello + encode(71, 2, client_id, "") + encode(61, 1) + encode(6, 2, 1, "DU1000001")
                         + encode(1, 11, 1, *aapl, "0", "", "0", "0", "") + encode(97, 2, *aapl, "Last", "0", "0")
                         + encode(92, 3, "DU1000001", "") + last)
            heard = b""
            while b"DU1000001" not in heard:
                more = sock.recv(65536)
                assert more, f"closed after {heard!r}"
                heard += more
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")       # close with a reset
            sock.close()
        end = time.monotonic() + DEADLINE_S
        while len(select(read_journal(journal), "disconnect")) < 3:
            assert time.monotonic() < end, "three clients have gone and the gateway has not seen it"
            time.sleep(0.01)
    assert trouble == []


class Pieces:
    """A writer that keeps what it is given, piece by piece."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.write = self.kept.append

    def get_extra_info(self, name: str) -> Pieces:
        return self

    def setsockopt(self, *options: int) -> None:
        pass

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("delivery", "whole_first", "pieces"), [
    ("split", False, [b"1", b"7", b"6", b"a", b"b"]), ("split", True, [b"176", b"a", b"b"]),
    ("coalesced", False, [b"176ab"])])
def test_the_relay_cuts_and_gathers(delivery, whole_first, pieces):
    async def story() -> list[bytes]:
        reader, writer = asyncio.StreamReader(), Pieces()
        reader.feed_data(b"176")
        carrying = asyncio.ensure_future(carry(reader, writer, delivery, whole_first))
        await asyncio.sleep(0)
        reader.feed_data(b"ab")
        reader.feed_eof()
        await carrying
        return writer.kept

    assert asyncio.run(story()) == pieces


@pytest.mark.parametrize("delivery", ["split", "coalesced"])
def test_the_relay_loses_nothing(delivery):
    sent = bytes(range(256)) * 8
    pieces: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def collect() -> None:
        there, _ = listener.accept()
        with there:
            while piece := there.recv(65536):
                pieces.append(piece)

    thread = threading.Thread(target=collect)
    thread.start()
    with relay(listener.getsockname()[1], delivery) as port:
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
            for at in range(0, len(sent), 128):
                sock.sendall(sent[at:at + 128])
        thread.join(DEADLINE_S)
    listener.close()
    assert b"".join(pieces) == sent


def test_an_environment_is_made_once_and_again_when_its_pins_change(monkeypatch, tmp_path):
    made: list[list[str]] = []
    monkeypatch.setattr(environments, "BUILD", tmp_path)
    monkeypatch.setattr(environments, "_install", lambda client, words, folder: made.append(words))
    one = Client(name="@some/one", driver="insync.py", module="one", server_versions=(176,), packages=("one==1",))
    folder = ready(one)
    assert ready(one) == folder == tmp_path / "some-one"
    assert len(made) == 2
    assert made[1][-1] == "one==1"
    ready(Client(name="@some/one", driver="insync.py", module="one", server_versions=(176,), packages=("one==2",)))
    assert len(made) == 4


def test_a_half_made_environment_is_not_used_and_the_installer_is_quoted(monkeypatch, tmp_path, capsys):
    def refuse(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", "no such version")

    monkeypatch.setattr(environments, "BUILD", tmp_path)
    monkeypatch.setattr(subprocess, "run", refuse)
    ibapi = next(c for c in clients() if c.name == "ibapi")
    for _ in range(2):
        with pytest.raises(EnvironmentProblem, match="no such version"):
            ready(ibapi)
    assert main(["--client", "ibapi", "--json"]) == 1
    assert "no environment: ibapi" in capsys.readouterr().out


def test_every_client_has_its_driver_and_pins():
    for client in clients():
        assert (environments.HERE / "drivers" / client.driver).is_file()
        assert all("==" in package for package in client.packages)
        assert client.packages or client.node
        assert Path(command(client, 1, Path("/folder"))[-3 if not client.node else 1]).name == client.driver
