"""The gateway's own record of all that reached it, all that it sent and all that happened at its exchange.

Law: one JSON object per line, flushed as it happens, so a test may read it while the gateway runs and after it was
killed. The engine is judged by this file, never by its own memory.

Every line has `seq`, `ts_ns` (UTC), `dir` (`in` from a client, `out` to a client, `sim` at the exchange), `client`
and `msg`. In a replay `ex_ns` is the exchange's own time. `sim` lines are the truth about orders, whoever was
connected: `order` (a status), `execution`, `quote`, `step`, `connect`, `disconnect`, `bad_bytes`, `halt`, `market` (a
phase of the exchange's hours). What a fault did is a `fault` line with its name, its `number`, its `aim` and what it
touched; `fault_set`, `fault_removed`, `link`, `kept_for_link`, `lost_with_link`, `restart`, `ids_rolled_back`,
`execution_corrected` and `control` say the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

Line = dict[str, Any]


class CannotKeep(RuntimeError):
    """A file that must be kept cannot be written; a gateway ends rather than go on without. The text says which."""


class Journal:
    """Writes the lines; without a path it only counts them."""

    def __init__(self, path: str | os.PathLike[str] | None = None, keep: bool = False) -> None:
        self.seq = 0
        self.lines: list[Line] | None = [] if keep else None
        self._encoder = msgspec.json.Encoder(decimal_format="string")
        self._path = path
        self._fd = None
        if path:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            except OSError as problem:
                raise CannotKeep(f"journal {os.fspath(path)}: cannot be opened: {problem.strerror}") from None

    @property
    def on(self) -> bool:
        return self._fd is not None or self.lines is not None

    def write(self, now_ns: int, ex_ns: int, direction: str, client: int, msg: str, fields: Line) -> None:
        """Append one line and hand it to the operating system at once."""
        self.seq += 1
        if not self.on:
            return
        line: Line = {"seq": self.seq, "ts_ns": now_ns, "dir": direction, "client": client, "msg": msg}
        if ex_ns != now_ns:
            line["ex_ns"] = ex_ns
        line.update(fields)
        encoded = self._encoder.encode(line)
        if self.lines is not None:
            self.lines.append(msgspec.json.decode(encoded))
        if self._fd is not None:
            self._put(self._fd, encoded + b"\n")

    def _put(self, fd: int, data: bytes) -> None:
        """Write all of it; a full disk takes a part first and refuses the rest."""
        try:
            while data:
                data = data[os.write(fd, data):]
        except OSError as problem:
            raise CannotKeep(f"journal {os.fspath(self._path or '')}: cannot be written: {problem.strerror}") from None

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def read_journal(path: str | os.PathLike[str]) -> list[Line]:
    """Return all whole lines of a journal, also of one that is still being written; [] if there is no file yet."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    end = data.rfind(b"\n") + 1
    return [msgspec.json.decode(line) for line in data[:end].splitlines() if line]


def select(lines: Iterable[Line], msg: str, direction: str | None = None, ref: str = "*",
           client: int | None = None) -> list[Line]:
    """Return the lines of one message name, filtered by direction, orderRef glob and client."""
    return [line for line in lines
            if line["msg"] == msg and (direction is None or line["dir"] == direction)
            and (client is None or line["client"] == client)
            and (ref == "*" or fnmatchcase(line.get("orderRef", ""), ref))]


def placements(lines: Iterable[Line], ref: str = "*") -> list[Line]:
    """Return every new order that reached the gateway, refused or not, in order."""
    return select(lines, "placeOrder", "in", ref)


def modifies(lines: Iterable[Line], ref: str = "*") -> list[Line]:
    """Return every amendment of a known order that reached the gateway."""
    return select(lines, "modifyOrder", "in", ref)


def cancels(lines: Iterable[Line], ref: str = "*") -> list[Line]:
    """Return every cancel request that reached the gateway; orderRef is filled in where the order is known."""
    return select(lines, "cancelOrder", "in", ref)


def executions(lines: Iterable[Line], ref: str = "*") -> list[Line]:
    """Return every execution at the exchange, in order."""
    return select(lines, "execution", "sim", ref)


def statuses(lines: Iterable[Line], ref: str = "*") -> list[Line]:
    """Return every order state that the exchange went through."""
    return select(lines, "order", "sim", ref)


def errors(lines: Iterable[Line], code: int | None = None) -> list[Line]:
    """Return every error message that was sent to a client."""
    return [e for e in select(lines, "error", "out") if code is None or e["code"] == code]


def final_orders(lines: Iterable[Line]) -> dict[str, Line]:
    """Return the last state of each order by orderRef; an order without one is under `clientId:orderId`."""
    states: dict[str, Line] = {}
    for line in statuses(lines):
        states[line.get("orderRef") or f"{line['client']}:{line['orderId']}"] = line
    return states


def order_by_ref(lines: Iterable[Line], ref: str) -> Line | None:
    """Return the last state of the latest order whose orderRef fits the glob, or None."""
    found = statuses(lines, ref)
    return found[-1] if found else None


def positions(lines: Iterable[Line]) -> dict[tuple[str, str], Decimal]:
    """Return the signed quantity per (account, symbol) at the end, summed from opening positions and executions."""
    held: dict[tuple[str, str], Decimal] = {}
    for line in lines:
        if line["dir"] != "sim" or line["msg"] not in ("execution", "opening_position"):
            continue
        key = (line["account"], line["symbol"])
        signed = Decimal(line["quantity"])
        if line["msg"] == "execution" and line["action"] == "SELL":
            signed = -signed
        held[key] = held.get(key, Decimal(0)) + signed
    return held


def filled_quantity(lines: Iterable[Line], ref: str = "*") -> Decimal:
    """Return the shares executed by orders whose orderRef fits, buys and sells alike."""
    return sum((Decimal(e["quantity"]) for e in executions(lines, ref)), Decimal(0))
