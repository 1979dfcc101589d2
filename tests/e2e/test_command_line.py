"""The command line against real processes: what it prints, how it exits, and that nothing is left behind."""

import json
import os
import random
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from actors.cli.show import NINE
from actors.venue.simulator.journal import placements, read_journal
from actors.web.client import Bracketeer
from storage.reader import Reader
from tests.e2e.engines import PATIENCE_S, ROOT, RUN, Process, Service, cli, environment, marked, wait_for
from tests.storage import postgres

pytestmark = pytest.mark.integration
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.json"))


def one_sentence(done) -> str:
    """Return what was said on standard error: one line, and no traceback anywhere."""
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


# -- without an engine -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["explode"], 2, "explode"),
        (["submit", "--buy", "100"], 2, "--buy"),
        (["submit"], 2, "FILE"),
        (["submit", "--buy", "1", "AAPL", "--sell", "1", "AAPL"], 2, "one side"),
        (["submit", "intent.json", "--limit", "5"], 2, "--limit"),
        (["submit", "/does/not/exist.json"], 2, "exist.json"),
        (["submit", "--buy", "1", "AAPL", "--state", "{state}"], 3, "start"),
        (["demo", "--scenario", "nonsense"], 2, "nonsense"),
        (["demo", "--base", "nonsense"], 2, "nonsense"),
        (["start", "--live"], 1, "--live"),
        (["start", "--gateway", "nowhere"], 2, "--gateway"),
        (["start", "--http", "0.0.0.0:8765"], 2, "loopback"),
        (["start", "--config", "/does/not/exist.toml"], 2, "/does/not/exist.toml"),
        (["start", "--client-id", "x"], 2, "--client-id"),
        (["start", "--state", "/proc/nowhere"], 5, "/proc/nowhere"),
        (["gateway", "--port", "0", "--scenario", "/does/not/exist.toml"], 2, "exist.toml"),
        (["gateway", "--rule", "oca_amend=perhaps"], 2, "oca_amend"),
        (["gateway", "--rule", "oca=true"], 2, "oca_cancel_cascade"),
        (["gateway", "--server-version", "150"], 2, "server_version"),
        (["gateway", "--settings", "/does/not/exist.toml"], 2, "/does/not/exist.toml"),
        (["orders", "--state", "{state}"], 3, "start"),
        (["bracket", "B1", "--state", "{state}"], 3, "start"),
        (["flatten", "B1", "--url", "http://127.0.0.1:1", "--state", "{state}"], 3, "start"),
        (["rebuild", "--state", "{state}"], 5, "state"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_in_one_sentence(tmp_path, arguments, code, said):
    given = [argument.replace("{state}", str(tmp_path / "state")) for argument in arguments]
    done = cli(*given)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert said in one_sentence(done)


def test_a_port_that_is_taken_is_told_with_who_holds_it():
    """Issue 3, bad input: a port in use, with who holds it where that can be known."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli("gateway", "--port", str(port))
    assert done.returncode == 5
    assert f"--port {port}" in one_sentence(done)
    if sys.platform == "linux":
        assert f"pid {os.getpid()} (" in one_sentence(done)


def test_a_folder_in_which_others_may_write_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    done = cli("start", "--state", str(tmp_path))
    assert done.returncode == 5
    assert "others may write" in one_sentence(done)


def test_with_json_a_refusal_is_json_too(tmp_path):
    done = cli("orders", "--json", "--state", str(tmp_path))
    assert done.returncode == 3
    assert json.loads(done.stdout).keys() == {"code", "field", "sentence"}


def test_every_command_has_help_and_the_first_page_names_them_all():
    page = cli("--help").stdout
    for command in ("demo", "gateway", "start", "submit", "status", "orders", "bracket", "cancel", "cancel-entry",
                    "flatten", "detach", "modify", "export", "rebuild", "doctor"):  # fmt: skip
        assert f"  {command}" in page


def test_run_py_is_short_and_defines_no_actor():
    text = (ROOT / "run.py").read_text()
    assert len(text.splitlines()) <= 200
    assert "thespian" not in text


# -- with an engine --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """An engine on a gateway that holds 100 AAPL and whose market stands still until something trades."""
    made = Service(tmp_path_factory.mktemp("service"), scenario="oco")
    yield made
    made.stop()


def submitted(service, *flags: str) -> str:
    """Submit a bracket whose entry rests and return its id."""
    given = flags or ("--buy", "10", "AAPL", "--limit", "90", "--target", "120", "--stop", "80")
    return service.json("submit", *given)["bracket_id"]


def row(service, bracket_id: str, leg: str) -> dict:
    return next(row for row in service.json("bracket", bracket_id)["orders"] if row["leg"] == leg)


def test_the_token_and_the_folder_are_for_their_owner_only(service):
    folder = Path(service.state)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("token", "engine.sock", "http"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    token = (folder / "token").read_text().strip()
    assert len(token) >= 32
    for log in (folder / "logs").iterdir():
        assert token not in log.read_text()


def test_a_second_engine_in_the_same_folder_is_refused_with_the_pid(service):
    done = cli("start", "--state", service.state, "--gateway", f"127.0.0.1:{service.port}", "--http", "127.0.0.1:0")
    assert done.returncode == 5
    assert str(service.engine.popen.pid) in one_sentence(done)


def test_rebuild_is_refused_while_the_engine_runs(service):
    done = service.cli("rebuild")
    assert done.returncode == 5
    assert "runs there already" in one_sentence(done)


def test_a_bracket_by_flags_is_transmitted_and_its_exits_are_not(service):
    bracket_id = submitted(service)
    wait_for(lambda: row(service, bracket_id, "entry")["state"] == "PLACED")
    rows = {order["orderId"]: order for order in service.json("orders") if order["orderId"].startswith(bracket_id)}
    assert {name.split(".")[1]: order["status"] for name, order in rows.items()} == {
        "entry": "transmitted", "target": "pending", "stop": "pending"
    }  # fmt: skip
    sent = [line["orderRef"] for line in placements(read_journal(service.journal), f"{bracket_id}.*")]
    assert sent == [f"{bracket_id}.entry"]


def test_a_bracket_tells_its_whole_story(service):
    bracket_id = submitted(service)
    wait_for(lambda: row(service, bracket_id, "entry")["state"] == "PLACED")
    story = service.json("bracket", bracket_id)
    assert story["events"][0]["type"] == "BracketOpened"
    assert [event["bracket_seq"] for event in story["events"]] == list(range(1, len(story["events"]) + 1))
    text = service.cli("bracket", bracket_id)
    assert text.returncode == 0
    assert "is on disk: BUY 10 AAPL LMT 90" in text.stdout


def test_a_file_and_standard_input_are_read_and_a_repeated_signal_is_known(service, tmp_path):
    intent = {**json.loads((ROOT / "docs/examples/bracket.json").read_text()), "signal_id": "from-file",
              "limit_price": "90", "exits": [{"target": {"price": "120"}, "stop": {"price": "80"}}]}  # fmt: skip
    file = tmp_path / "intent.json"
    file.write_text(json.dumps(intent))
    first = service.json("submit", str(file))
    again = service.json("submit", "-", stdin=json.dumps(intent))
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert first["bracket_id"] == again["bracket_id"]
    other = service.cli("submit", "-", stdin=json.dumps({**intent, "limit_price": "91"}))
    assert other.returncode == 1
    assert "from-file" in one_sentence(other)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--buy", "-5", "AAPL"], "quantity"),
        (["--buy", "5", "aapl"], "instrument"),
        (["--buy", "5", "NOSUCH"], "NOSUCH"),
        (["--buy", "5", "AAPL", "--limit", "100", "--stop", "105"], "105"),
        (["--buy", "5", "AAPL", "--limit", "90.001", "--stop", "80"], "90.001"),
        (["--buy", "5", "AAPL", "--tif", "NEVER"], "time_in_force"),
        (["--sell-short", "5", "AAPL", "--limit", "90", "--stop", "95"], "side"),
    ],
)  # fmt: skip
def test_a_bad_intent_is_refused_with_field_value_and_rule(service, flags, said):
    done = service.cli("submit", *flags)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert said in one_sentence(done)


def test_verbs_end_a_bracket_and_are_refused_when_it_is_over(service):
    bracket_id = submitted(service)
    wait_for(lambda: row(service, bracket_id, "entry")["state"] == "PLACED")
    assert service.json("modify", bracket_id, "--limit", "89", "--target", "121")["bracket_id"] == bracket_id
    wait_for(lambda: [row(service, bracket_id, leg)["price"] for leg in ("entry", "target")] == ["89", "121"])
    assert service.json("cancel", bracket_id)["bracket_id"] == bracket_id
    wait_for(lambda: service.json("bracket", bracket_id)["phase"] == "CLOSED")
    over = service.cli("flatten", bracket_id)
    assert over.returncode == 1
    assert bracket_id in one_sentence(over)


@pytest.mark.parametrize("verb", ["bracket", "flatten", "cancel", "cancel-entry", "detach"])
def test_an_unknown_bracket_is_exit_code_4(service, verb):
    done = service.cli(verb, "B99999-none")
    assert done.returncode == 4
    assert "B99999-none" in one_sentence(done)


def test_export_has_exactly_the_nine_fields(service):
    submitted(service)
    rows = service.json("export", "orders")
    assert rows
    assert all(tuple(row) == NINE for row in rows)
    assert service.cli("export", "orders").stdout.splitlines()[0] == ",".join(NINE)


def test_status_tells_that_it_is_ready(service):
    wait_for(lambda: service.json("status")["silent"] == [], what="a status in which every service had its second")
    assert service.json("status")["ready"] is True
    assert service.cli("status").stdout.startswith("ready")


def test_doctor_finds_everything_in_order(service):
    options = ["--gateway", f"127.0.0.1:{service.port}", "--http", "127.0.0.1:0"]
    found = service.json("doctor", *options)
    assert found["ok"], found
    assert {"paper account", "clock", "database", "gateway"} <= {line["check"] for line in found["findings"]}
    assert "FAIL  gateway" in service.cli("doctor", "--gateway", "127.0.0.1:1", "--http", "127.0.0.1:0").stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_of_the_documentation_is_accepted(service, example):
    with Bracketeer.of_state(service.state) as client:
        bracket_id = client.submit(example.read_bytes()).bracket_id
        story = client.bracket(bracket_id)
    assert story["definition"]["intent"]["signal_id"] == json.loads(example.read_text())["signal_id"]


@pytest.mark.compliance
def test_a_thousand_hostile_payloads_leave_no_row(service):
    chance = random.Random(7)
    good = json.loads((ROOT / "docs/examples/bracket.json").read_text())
    values = [None, True, -1, 0, 1e308, "NaN", "Infinity", "1e999999999", "9" * 5_000, "\x00", "\ud800", "'; DROP",
              [], {}, [[[[[[[[[[]]]]]]]]]], {"price": "NaN"}, "BUY ", "-0", "0.0000001"]  # fmt: skip
    reader = Reader(f"sqlite:///{Path(service.state).absolute() / 'bracketeer.db'}")
    before, last = reader.bracket_counts(), reader.last_seq()
    token = (Path(service.state) / "token").read_text().strip()
    with httpx.Client(base_url=(Path(service.state) / "http").read_text().strip(), trust_env=False) as http:
        for number in range(1_000):
            # Every payload is spoiled for certain: a side that does not exist, or no JSON.
            payload = {**good, "signal_id": f"hostile-{number}", "side": chance.choice(values)}
            payload[chance.choice(list(good))] = chance.choice(values)
            payload["side"] = chance.choice(values)
            body = json.dumps(payload).encode()
            if number % 3 == 0:
                body = body[: chance.randrange(len(body))] + chance.randbytes(chance.randrange(9))
            answer = http.post("/v1/intents", content=body, headers={"authorization": f"Bearer {token}"})
            assert answer.status_code in (400, 413), answer.text
            assert answer.json().keys() == {"code", "field", "sentence"}
    written = [event for event in reader.events_after(last) if b"hostile" in bytes(event.payload)]
    assert written == []
    assert sum(reader.bracket_counts().values()) == sum(before.values())
    assert submitted(service)


def test_status_is_watched_until_ctrl_c(service):
    import pty

    mark, (leader, follower) = "watch", pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, RUN, "status", "--watch", "--state", service.state], env=environment(mark), stdout=follower,
        stderr=subprocess.PIPE, cwd="/",
    )  # fmt: skip
    os.close(follower)
    shown, deadline = b"", time.monotonic() + PATIENCE_S
    while b"orders can be sent" not in shown:
        assert select.select([leader], [], [], max(0.0, deadline - time.monotonic()))[0], shown
        shown += os.read(leader, 65_536)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(PATIENCE_S) == 130
    assert b"Traceback" not in watching.stderr.read()
    watching.stderr.close()
    os.close(leader)


# -- starting and ending ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGTERM, ()), (signal.SIGINT, ()), (signal.SIGTERM, ("--base", "multiprocTCPBase"))],
    ids=["SIGTERM", "SIGINT", "SIGTERM-isolated"],
)
def test_a_signal_ends_everything_in_order(tmp_path, number, options):
    service = Service(tmp_path, *options)
    try:
        bracket_id = submitted(service)
        assert len(marked(service.engine.mark)) >= 2
        assert service.engine.end(number) == 0
        assert not (Path(service.state) / "http").exists()
        assert service.cli("orders").returncode == 3
        offline = service.json("export", "orders")
        assert offline[0]["orderId"] == f"{bracket_id}.entry"
        rebuilt = service.json("rebuild")
        assert rebuilt["events"] > 0
        assert rebuilt["changed"] == []
    finally:
        service.stop()


@pytest.mark.parametrize("base", ["simpleSystemBase", "multiprocTCPBase"])
def test_a_killed_engine_takes_everything_along_and_can_start_again(tmp_path, base):
    service = Service(tmp_path, "--base", base)
    try:
        bracket_id = submitted(service)
        token = (Path(service.state) / "token").read_text()
        assert service.engine.end(signal.SIGKILL) == -signal.SIGKILL
        service.start()
        assert service.json("bracket", bracket_id)["bracket_id"] == bracket_id
        assert (Path(service.state) / "token").read_text() == token
    finally:
        service.stop()


def test_an_engine_without_a_gateway_waits_and_says_why(tmp_path):
    engine = Process("start", "--gateway", "127.0.0.1:1", "--state", str(tmp_path / "s"), "--http", "127.0.0.1:0",
                     "--json")  # fmt: skip
    try:
        assert engine.event("waiting")["reason"]
        status = cli("status", "--json", "--state", str(tmp_path / "s"))
        assert json.loads(status.stdout)["ready"] is False
    finally:
        assert engine.end() == 0


def test_an_http_process_that_dies_is_started_again(tmp_path):
    service = Service(tmp_path)
    try:
        (web,) = (
            pid for pid in marked(service.engine.mark) if b"actors.web" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(web, signal.SIGKILL)
        wait_for(lambda: web not in marked(service.engine.mark) and service.cli("status").returncode == 0)
        submitted(service)
    finally:
        service.stop()


def test_the_example_of_the_client_runs_as_it_stands(tmp_path):
    service = Service(tmp_path, scenario="target")
    try:
        script = dedent(Bracketeer.__doc__.split("::", 1)[1].split("Events are dicts")[0])
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env={**environment("script"), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].endswith("BracketMoved")
        wait_for(lambda: [(held["quantity"], held["realized_pnl"]) for held in service.json("status")["positions"]]
                 == [("0", "1000")], what="the booked position")  # fmt: skip
    finally:
        service.stop()


def test_the_same_on_postgresql(tmp_path):
    """The worked example with its rows and its stream in PostgreSQL."""
    url = postgres.server().url()
    service = Service(tmp_path, "--db", url, scenario="target")
    try:
        with Bracketeer.of_state(service.state) as client:
            bracket_id = client.submit((ROOT / "docs/examples/bracket.json").read_bytes()).bracket_id
            for event in client.events(timeout_s=PATIENCE_S):
                if event["type"] == "BracketMoved" and event["payload"]["phase"] == "CLOSED":
                    break
            rows = {row["orderId"].split(".")[1]: row["status"] for row in client.orders(bracket_id)}
        assert rows == {"entry": "filled", "target": "filled", "stop": "canceled"}
        assert not (Path(service.state) / "bracketeer.db").exists()
        service.engine.end()
        assert service.json("rebuild", "--db", url)["changed"] == []
        assert len(json.loads(cli("export", "orders", "--db", url, "--json").stdout)) == 3
    finally:
        service.stop()


def test_an_engine_without_http_says_that_it_runs(tmp_path):
    config = tmp_path / "engine.toml"
    config.write_text("[http]\nenabled = false\n")
    where = ["--gateway", "127.0.0.1:1", "--state", str(tmp_path / "s"), "--config", str(config)]
    engine = Process("start", *where, "--json")
    try:
        assert engine.event("started")["http"] is False
        assert not (tmp_path / "s" / "http").exists()
    finally:
        assert engine.end() == 0
