"""What only processes can do: be killed, hang, outlive their parents, hear strangers. Isolated base."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from actors import thespian_shim
from actors.host import EMBEDDED, ISOLATED, ServiceSpec
from actors.isolated import IsolatedEngine
from tests.contract.conftest import DEADLINE_S, Engine
from tests.contract.test_fail_once import hire, order
from tests.contract.toys import WhoAreYou

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs prctl and pidfd of Linux")


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], deadline: float = DEADLINE_S) -> bool:
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def pid_of(engine: Engine, child: str = "w") -> int:
    return int(engine.ask(WhoAreYou(child=child), "foreman").pid)


@pytest.fixture
def isolated(make_engine) -> Engine:
    engine = make_engine(ISOLATED)
    hire(engine)
    return engine


@pytest.fixture
def hasty(make_engine) -> Engine:
    engine = make_engine(ISOLATED, (ServiceSpec(name="foreman", actor="tests.contract.toys.Hasty"),))
    hire(engine)
    return engine


def test_every_actor_is_a_process_of_its_own(isolated: Engine) -> None:
    pids = {os.getpid(), isolated.host._engine.pids["root"], pid_of(isolated), pid_of(isolated, "")}
    assert len(pids) == 4


def test_a_killed_child_is_noticed_and_rebuilt(isolated: Engine) -> None:
    os.kill(pid_of(isolated), signal.SIGKILL)
    isolated.wait_for("foreman exited w")
    isolated.wait_for("foreman started w 2")


def test_a_child_that_ends_its_own_process_is_rebuilt(isolated: Engine) -> None:
    order(isolated, "die")
    isolated.wait_for("foreman exited w")
    isolated.wait_for("foreman started w 2")


def test_a_hung_child_is_killed_by_pid_and_rebuilt(hasty: Engine) -> None:
    hung = pid_of(hasty)
    os.kill(hung, signal.SIGSTOP)
    hasty.wait_for("foreman started w 2")
    assert not alive(hung)
    assert pid_of(hasty) != hung


def test_a_failed_parent_with_a_hung_child_does_not_hold_up_its_own_rebuilding(hasty: Engine) -> None:
    order(hasty, "hire")
    order(hasty, "ask-leg")
    hasty.until(lambda: any("leg pid" in line for line in hasty.lines()), "the pid of the leg")
    leg = int(next(line for line in hasty.lines() if "leg pid" in line).rpartition(" ")[2])
    parent = pid_of(hasty)
    os.kill(leg, signal.SIGSTOP)
    order(hasty, "leave")
    hasty.wait_for("foreman started w 2")
    assert wait_until(lambda: not alive(parent)), "a parent that waits for its hung child was not killed"
    assert wait_until(lambda: not alive(leg)), "the hung child outlived its parent"


def test_a_supervisor_that_was_paused_does_not_kill_children_for_its_own_silence(hasty: Engine) -> None:
    foreman, worker = pid_of(hasty, ""), pid_of(hasty)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(0.15)  # a heartbeat is in flight by now, and its deadline of 1 s is not over
    os.kill(foreman, signal.SIGSTOP)
    time.sleep(1.1)  # now it is; it is the pause itself that is tested
    for pid in (worker, foreman):
        os.kill(pid, signal.SIGCONT)
    hasty.settle()
    order(hasty, "nothing")
    hasty.wait_for("w did nothing")
    assert pid_of(hasty) == worker
    assert "foreman exited w" not in hasty.lines()


def test_children_die_with_a_killed_parent(isolated: Engine) -> None:
    order(isolated, "hire")
    order(isolated, "ask-leg")
    isolated.until(lambda: any("leg pid" in line for line in isolated.lines()), "the pid of the leg")
    leg = int(next(line for line in isolated.lines() if "leg pid" in line).rpartition(" ")[2])
    os.kill(pid_of(isolated), signal.SIGKILL)
    assert wait_until(lambda: not alive(leg))
    isolated.wait_for("foreman started w 2")


def test_every_process_dies_with_the_admin_and_its_port_is_free_at_once(make_engine) -> None:
    engine = make_engine(ISOLATED)
    hire(engine)
    inner: IsolatedEngine = engine.host._engine
    worker, port = pid_of(engine), inner.port
    os.kill(inner.pids["admin"], signal.SIGKILL)
    engine.until(lambda: inner.gone, "the end of every process, once the admin was killed,")
    assert not alive(worker)
    engine.host.stop()
    with socket.socket() as again:  # the logger inherits the listening socket: it must be gone too
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((thespian_shim.LOOPBACK, port))
        again.listen()


def test_an_engine_starts_again_on_the_port_of_a_killed_one(make_engine, tmp_path: Path) -> None:
    first = make_engine(ISOLATED)
    port = first.host._engine.port
    os.kill(first.host._engine.pids["admin"], signal.SIGKILL)
    first.until(lambda: first.host._engine.gone, "the end of every process")
    first.host.stop()
    begun = time.monotonic()
    second = make_engine(ISOLATED, port=port)
    assert second.host._engine.port == port
    assert time.monotonic() - begun < 10.0  # as shipped, the logger keeps it refused for over 90 s


def test_a_killed_root_ends_the_engine_with_a_code(make_engine) -> None:
    engine = make_engine(ISOLATED)
    os.kill(engine.host._engine.pids["root"], signal.SIGKILL)
    engine.until(lambda: engine.host.ended is not None, "the end of the engine")
    assert engine.host.run() == 70
    assert engine.host._engine.gone


def test_a_hung_root_is_killed_and_the_engine_ends(make_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(ISOLATED)
    monkeypatch.setattr(IsolatedEngine, "silence_seconds", 0.3)  # not before: a start may take longer
    os.kill(engine.host._engine.pids["root"], signal.SIGSTOP)
    engine.until(lambda: engine.host.ended is not None, "the end of the engine")
    assert engine.host.run() == 70
    assert engine.host._engine.gone


# Strangers.


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def listening_sockets(pid: int) -> list[tuple[str, int]]:
    """Return (address in hex, port) of every TCP socket on which a process listens."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                found.append((address, int(port, 16)))
    return found


def own_port(pid: int) -> int:
    (_, port), *others = listening_sockets(pid)
    assert not others, f"process {pid} inherited the listening sockets {others}"
    return port


def test_every_process_listens_on_loopback_only(isolated: Engine) -> None:
    pids = [*isolated.host._engine.pids.values(), pid_of(isolated), pid_of(isolated, ""), os.getpid()]
    for pid in pids:
        sockets = listening_sockets(pid)
        assert sockets, f"process {pid} does not listen at all"
        assert {address for address, _ in sockets} == {"0100007F"}, sockets


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(lambda bomb: bomb, id="a pickle as shipped"),
        pytest.param(lambda bomb: bytes(32) + bomb, id="a pickle behind an empty signature"),
        pytest.param(lambda bomb: thespian_shim.SignedPickle(bytes(32)).dumps(0)[:32] + bomb, id="another signature"),
    ],
)
def test_a_strangers_bytes_are_never_unpickled(isolated: Engine, tmp_path: Path, frame) -> None:
    trap = tmp_path / "sprung"
    body = frame(pickle.dumps((None, Bomb(str(trap)))))
    for port in (own_port(pid_of(isolated)), isolated.host._engine.port):
        with socket.create_connection((thespian_shim.LOOPBACK, port), timeout=DEADLINE_S) as stranger:
            stranger.sendall(b"%d>" % len(body) + body)
            stranger.settimeout(DEADLINE_S)
            while stranger.recv(4096):  # until it hangs up
                pass
    assert not trap.exists()
    order(isolated, "nothing")
    isolated.wait_for("w did nothing")


@pytest.mark.parametrize("header", [b"99999999999>", b"-5>", b"1" * 64, b"nonsense>"])
def test_a_frame_that_declares_too_much_is_hung_up_on(isolated: Engine, header: bytes) -> None:
    port = own_port(pid_of(isolated))
    with socket.create_connection((thespian_shim.LOOPBACK, port), timeout=DEADLINE_S) as stranger:
        stranger.sendall(header)
        stranger.settimeout(DEADLINE_S)
        try:
            assert stranger.recv(4096) == b""
        except ConnectionResetError:
            pass
    order(isolated, "nothing")
    isolated.wait_for("w did nothing")


def test_a_frame_of_ours_is_read_and_one_flipped_bit_is_not() -> None:
    signed = thespian_shim.SignedPickle(os.urandom(32))
    frame = bytearray(signed.dumps({"a": 1}))
    assert signed.loads(bytes(frame)) == {"a": 1}
    frame[-3] ^= 1
    with pytest.raises(thespian_shim.ForgedFrame):
        signed.loads(bytes(frame))
    with pytest.raises(thespian_shim.ForgedFrame):
        signed.dumps(bytes(thespian_shim.MAX_FRAME_BYTES))


def test_another_version_of_thespian_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from actors import thespian_repairs

    for module, make in ((thespian_shim, lambda: thespian_shim.install(bytes(32), None)),
                         (thespian_repairs, thespian_repairs.RepairedSystem)):
        monkeypatch.setattr(module, "version", lambda name: "4.1.0")
        with pytest.raises(RuntimeError, match=r"thespian 4\.1\.0 is installed"):
            make()


# The end.

SCRIPT = """
import sys
from pathlib import Path
from actors.host import Host, ServiceSpec
from tests.contract.toys import Do, Hire, Pass, ToySettings
host = Host(ToySettings(state_dir=sys.argv[1]), base=sys.argv[2])
host.start([ServiceSpec(name="foreman", actor="tests.contract.toys.Foreman")])
assert host.run_until(lambda: host.started is not None, 30)
host.tell(Hire(name="w"), "foreman")
witness = Path(sys.argv[1]) / "witness"
assert host.run_until(lambda: witness.exists() and "foreman started w 1" in witness.read_text(), 30)
print("up", *host._engine.__dict__.get("pids", {}).values(), flush=True)
if "block" in sys.argv:
    host.tell(Pass(name="w", order=Do(what="block")), "foreman")
sys.exit(host.run())
"""


def launch(base: str, folder: Path, *more: str) -> tuple[subprocess.Popen[str], list[int]]:
    launcher = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), base, *more], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )
    assert launcher.stdout is not None
    word, *pids = launcher.stdout.readline().split()
    assert word == "up"
    return launcher, [int(pid) for pid in pids]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_engine_in_good_order_and_leaves_no_process(base: str, tmp_path: Path, number: int) -> None:
    launcher, pids = launch(base, tmp_path)
    os.kill(launcher.pid, number)
    assert launcher.wait(DEADLINE_S) == 0
    assert not any(alive(pid) for pid in pids)
    stops = [line for line in (tmp_path / "witness").read_text().splitlines() if line.endswith("on_stop")]
    assert sorted(stops) == ["foreman on_stop", "w on_stop"]


def test_the_third_signal_ends_an_embedded_engine_whose_actor_blocks(tmp_path: Path) -> None:
    launcher, _ = launch(EMBEDDED, tmp_path, "block")
    assert wait_until(lambda: "w blocks" in (tmp_path / "witness").read_text())
    sent = 0

    def ended() -> bool:
        nonlocal sent
        if sent < 3 or sent % 20 == 0:  # signals of one kind that are pending together count once: more may be needed
            os.kill(launcher.pid, signal.SIGINT)
        sent += 1
        time.sleep(0.02)
        return launcher.poll() is not None

    assert wait_until(ended)
    assert launcher.returncode == 130
    assert sent >= 3


def test_the_engine_ends_when_its_launcher_is_killed(tmp_path: Path) -> None:
    launcher, pids = launch(ISOLATED, tmp_path)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    assert "w on_stop" in (tmp_path / "witness").read_text()


def test_the_engine_ends_when_launcher_and_root_are_killed(tmp_path: Path) -> None:
    launcher, pids = launch(ISOLATED, tmp_path)
    os.kill(launcher.pid, signal.SIGSTOP)  # so that it cannot clean up
    os.kill(pids[1], signal.SIGKILL)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    assert wait_until(lambda: not any(alive(pid) for pid in pids))


def test_the_embedded_engine_starts_no_process(make_engine) -> None:
    engine = make_engine(EMBEDDED)
    hire(engine)
    assert engine.ask(WhoAreYou(child="w"), "foreman").pid == os.getpid()
