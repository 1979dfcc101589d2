"""Toy actors for the contract tests; what they see they write as lines into one file, on either base."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from messages.base import Command, Event
from messages.supervision import Directory, StartActor


class ToySettings(msgspec.Struct, frozen=True):
    state_dir: str
    log_level: str = "WARNING"


class Hire(Command, frozen=True, kw_only=True):
    name: str
    kind: str = "tests.contract.toys.Worker"


class Dismiss(Command, frozen=True, kw_only=True):
    name: str


class Pass(Command, frozen=True, kw_only=True):
    """Hand an order down to a child."""

    name: str
    order: Command


class PassAll(Command, frozen=True, kw_only=True):
    """Hand several orders down in one breath, and perhaps dismiss the child in the same one."""

    name: str
    orders: tuple[Command, ...]
    dismiss: bool = False


class Do(Command, frozen=True, kw_only=True):
    what: str


class Count(Command, frozen=True, kw_only=True):
    n: int


class Chat(Command, frozen=True, kw_only=True):
    """Say so many numbers to another service, in one breath."""

    to: str
    count: int


class WhoAreYou(Command, frozen=True, kw_only=True):
    child: str = ""


class IAm(Event, frozen=True, kw_only=True):
    name: str
    incarnation: int
    pid: int


class Said(Event, frozen=True, kw_only=True):
    what: str
    incarnation: int = 0


class Toy(SupervisedActor):
    """Writes down what happens to it."""

    def note(self, text: str) -> None:
        path = Path(self.settings.state_dir) / "witness"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, f"{self.name} {text}\n".encode())
        finally:
            os.close(fd)

    def on_stop(self) -> None:
        self.note("on_stop")

    def receiveMsg_WhoAreYou(self, message: WhoAreYou, sender: ActorAddress) -> None:
        self.tell(sender, IAm(name=self.name, incarnation=self.incarnation, pid=os.getpid()))

    def receiveMsg_Said(self, message: Said, sender: ActorAddress) -> None:
        self.note(f"heard {message.what}")


class Foreman(Toy):
    """A supervisor that rebuilds what fails; it asks often, and has the patience that a busy machine needs."""

    heartbeat_seconds = 0.05
    heartbeat_deadline_seconds = 10.0
    exit_deadline_seconds = 10.0

    def receiveMsg_Hire(self, message: Hire, sender: ActorAddress) -> None:
        self.create_child(message.kind, message.name)

    def receiveMsg_Dismiss(self, message: Dismiss, sender: ActorAddress) -> None:
        self.stop_child(message.name)

    def receiveMsg_Pass(self, message: Pass, sender: ActorAddress) -> None:
        self.tell(self.child(message.name), message.order)

    def receiveMsg_PassAll(self, message: PassAll, sender: ActorAddress) -> None:
        for each in message.orders:
            self.tell(self.child(message.name), each)
        if message.dismiss:
            self.stop_child(message.name)

    def receiveMsg_WhoAreYou(self, message: WhoAreYou, sender: ActorAddress) -> None:
        child = self.children().get(message.child)
        if child is None:
            super().receiveMsg_WhoAreYou(message, sender)
        else:
            self.tell(sender, IAm(name=child.name, incarnation=child.incarnation, pid=child.pid))

    def on_child_started(self, name: str) -> None:
        self.note(f"started {name} {self.children()[name].incarnation}")

    def on_child_failed(self, name: str, error: str) -> None:
        self.note(f"failed {name} {error}")
        if self.restart_child(name) is None:
            self.note(f"gave up {name}")

    def on_child_exited(self, name: str) -> None:
        self.note(f"exited {name}")
        self.restart_child(name)

    def on_child_frozen(self, name: str, error: str) -> None:
        self.note(f"frozen {name}")

    def on_child_stopped(self, name: str) -> None:
        self.note(f"stopped {name}")


class Talker(Toy):
    """Says numbers to another, repeats what it hears by threes, and writes down in which order it hears it."""

    def on_start(self, start: StartActor) -> None:
        self.heard: list[Said] = []

    def receiveMsg_Chat(self, message: Chat, sender: ActorAddress) -> None:
        for number in range(message.count):
            self.tell(message.to, Said(what=str(number)))

    def receiveMsg_Said(self, message: Said, sender: ActorAddress) -> None:
        super().receiveMsg_Said(message, sender)
        if message.what.startswith("echo"):
            return
        self.heard.append(Said(what=f"echo {message.what}"))
        self.other = sender
        if len(self.heard) % 3 == 0:
            self.start_timer(f"echo {len(self.heard)}", 0.002)  # as who has to write something down

    def on_timer(self, key: str) -> None:
        end = int(key.split()[-1])
        for echo in self.heard[end - 3 : end]:
            self.tell(self.other, echo)


class Hasty(Foreman):
    """A supervisor that does not wait for long: for tests of children that hang."""

    heartbeat_deadline_seconds = 1.0
    exit_deadline_seconds = 0.3


class Worker(Toy):
    """Does what it is told, badly if told so."""

    def on_start(self, start: StartActor) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.watch(self.reader)

    def on_stop(self) -> None:
        super().on_stop()
        self.unwatch(self.reader)
        os.close(self.reader)
        os.close(self.writer)

    def on_readable(self, fds: list[int]) -> None:
        for fd in fds:
            self.note(f"read {os.read(fd, 100).decode()}")

    def on_timer(self, key: str) -> None:
        self.note(f"timer {key}")

    def receiveMsg_Count(self, message: Count, sender: ActorAddress) -> None:
        self.note(f"count {message.n}")
        if message.n < 0:
            raise ValueError("a negative count")

    def receiveMsg_Do(self, message: Do, sender: ActorAddress) -> None:
        getattr(self, "do_" + message.what.replace(" ", "_").replace("-", "_"))()

    def do_nothing(self) -> None:
        self.note("did nothing")

    def do_block(self) -> None:
        self.note("blocks")
        time.sleep(60)

    def do_write(self) -> None:
        os.write(self.writer, b"words")

    def do_send_then_raise(self) -> None:
        self.note("touched")
        self.send_now(self.parent, Said(what="sent at once"))
        self.tell(self.parent, Said(what="sent in good faith"))
        raise RuntimeError("halfway")

    def do_leave(self) -> None:
        raise SystemExit(3)

    def do_die(self) -> None:
        os._exit(9)

    def do_replace_timer(self) -> None:
        self.start_timer("bell", 0.03)
        self.start_timer("bell", 0.06)
        self.start_timer("end of replacing", 0.12)

    def do_cancel_timer(self) -> None:
        self.start_timer("bell", 0.03)
        self.cancel_timer("bell")
        self.cancel_timer("never set")
        self.start_timer("end of cancelling", 0.08)

    def do_set_long_timer(self) -> None:
        self.start_timer("bell", 60)
        self.note("set")

    def do_set_several_timers(self) -> None:
        for key, seconds in (("c", 0.06), ("a", 0.02), ("end of several", 0.1), ("b", 0.04)):
            self.start_timer(key, seconds)

    def do_tell_nobody(self) -> None:
        self.tell(self.child("never hired"), Said(what="lost"))

    def do_wake_after(self) -> None:
        self.wakeupAfter(1)

    def do_tell_ledger(self) -> None:
        self.tell("ledger", Said(what=f"from {self.name}"))

    def do_hire(self) -> None:
        self.create_child("tests.contract.toys.Worker", f"{self.name}-leg")
        self.note("hired")

    def do_ask_leg(self) -> None:
        self.tell(self.child(f"{self.name}-leg"), WhoAreYou())

    def receiveMsg_IAm(self, message: IAm, sender: ActorAddress) -> None:
        self.note(f"leg pid {message.pid}")


class Spitting(Worker):
    """Fails before it has started."""

    def on_start(self, start: StartActor) -> None:
        super().on_start(start)
        raise OSError("cannot open the till")


class Listener(Toy):
    """A service that tells its peers hello before it knows where they are."""

    def on_start(self, start: StartActor) -> None:
        self.tell("ledger", Said(what=f"hello from {self.name}"))

    def on_directory(self, directory: Directory) -> None:
        self.note("directory " + ",".join(sorted(directory.services)))

    def receiveMsg_Do(self, message: Do, sender: ActorAddress) -> None:
        if message.what == "fail":
            raise RuntimeError("as told")
        self.tell("ledger", Said(what=message.what))
