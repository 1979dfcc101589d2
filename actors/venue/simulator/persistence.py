"""What outlives a gateway: orders, executions, positions, cash and ids, in one SQLite file.

Law 1: nothing is said to a client before what it tells of is committed here, so a gateway that was killed at any moment
comes back with exactly what it had said (a crash of the whole machine may cost the last commits, never the file).
Law 2: one commit holds all that one turn changed; what was not transmitted, or not accepted yet, is never here.
Law 3: one process at a time uses a file.
Law 4: what cannot be stored is not said: `save` raises CannotKeep, and whoever serves the gateway ends it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from actors.venue.simulator.combos import ComboError
from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.journal import CannotKeep
from actors.venue.simulator.orders import Execution, Order, Position
from actors.venue.simulator.timetable import Reaction

if TYPE_CHECKING:
    from actors.venue.simulator.exchange import Exchange

FORMAT = 1
SCHEMA = ("CREATE TABLE IF NOT EXISTS fact (kind TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, "
          "body BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID")
INDEX = "CREATE INDEX IF NOT EXISTS fact_number ON fact (kind, number)"
OWN = frozenset({"fact", "fact_number"})
PUT = ("INSERT INTO fact (kind, key, number, body) VALUES (?, ?, ?, ?) "
       "ON CONFLICT (kind, key) DO UPDATE SET number = excluded.number, body = excluded.body")


class StateError(ValueError):
    """A state file that cannot be used; the text says which, why, and what to do."""


class Serial(Iterator[int]):
    """Counts up for ever; `value` is the number that comes next."""

    def __init__(self, first: int) -> None:
        self.value = first

    def __next__(self) -> int:
        self.value += 1
        return self.value - 1


class Live(msgspec.Struct, frozen=True):
    """An order that is not final, and whether it meets the market."""

    order: Order
    working: bool


class Counters(msgspec.Struct, kw_only=True):
    """What is counted or due; one row, written when it changed."""

    format: int = FORMAT
    accounts: tuple[str, ...]
    perm_id: int
    exec_number: int
    executed: int
    retired: int
    seq: int
    manuals: int
    last_id: dict[int, int]
    cash: dict[str, Decimal]
    reactions: list[Reaction]


@dataclass
class Identity:
    """The parts of a gateway beside its exchange that must come back."""

    accounts: tuple[str, ...]
    perm_ids: Serial
    exec_numbers: Serial


def _open(path: str) -> sqlite3.Connection:
    """Open a state file for this process alone, or make it."""
    db = None
    try:
        db = sqlite3.connect(path, timeout=0, isolation_level=None)
        db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
        if names - OWN:
            raise sqlite3.DatabaseError(f"it is another program's, which keeps {', '.join(sorted(names - OWN))} in it")
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.execute("BEGIN IMMEDIATE")
        db.execute(SCHEMA)
        db.execute(INDEX)
        db.execute("COMMIT")
        (found,), *_ = db.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise sqlite3.DatabaseError(f"damaged: {' '.join(found.split())}")
        db.execute("SELECT kind, key, number, body FROM fact WHERE kind = 'counters'").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        if db is not None:
            db.close()
        reason = "another gateway uses it" if "locked" in str(problem) else str(problem)
        raise StateError(f"state file {path}: {reason}; name another one") from None
    return db


class Store:
    """One state file and the exchange that it keeps. Raises StateError for a file that cannot be used."""

    def __init__(self, path: str, exchange: Exchange, identity: Identity) -> None:
        self.path = path
        self._exchange = exchange
        self._identity = identity
        self._told = b""                     # the counters as they were last written
        self._executed = 0
        self._encode = msgspec.msgpack.encode
        self._db = _open(path)
        row = self._db.execute("SELECT body FROM fact WHERE kind = 'counters'").fetchone()
        self.restored = row is not None
        """Whether the file brought back an earlier gateway's books."""

    # reading ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Put what is stored into the exchange, and keep it from now on; what is not stored yet is stored at once."""
        if self.restored:
            try:
                self._load()
            except StateError:
                self._db.close()
                raise
            except msgspec.DecodeError as problem:
                self._db.close()
                raise StateError(f"state file {self.path}: damaged, or written by another version of this gateway "
                                 f"({problem}); remove it to begin anew") from None
            except (sqlite3.Error, ArithmeticError, LookupError, ValueError) as problem:
                self._db.close()
                raise StateError(f"state file {self.path}: damaged ({problem}); remove it to begin anew") from None
        self._exchange.noted = {}
        self._exchange.accounts.touched.update(dict.fromkeys(self._exchange.accounts.positions))
        self.save()

    def _rows(self, kind: str, type_: type[Any]) -> Iterator[tuple[str, Any]]:
        decoder = msgspec.msgpack.Decoder(type_)
        for key, body in self._db.execute("SELECT key, body FROM fact WHERE kind = ? ORDER BY number", (kind,)):
            yield key, decoder.decode(body)

    def _load(self) -> None:
        exchange, identity = self._exchange, self._identity
        (_, counters), = self._rows("counters", Counters)
        strange = set(counters.accounts) - set(identity.accounts)
        if counters.format != FORMAT or strange:
            reason = f"it holds accounts {', '.join(sorted(strange))}" if strange else f"format {counters.format}"
            raise StateError(f"state file {self.path}: {reason}, which this gateway does not have; name another one")
        identity.perm_ids.value, identity.exec_numbers.value = counters.perm_id, counters.exec_number
        exchange.last_id.update(counters.last_id)
        exchange.accounts.cash.update(counters.cash)
        exchange.executed = self._executed = counters.executed
        exchange.resume(counters.seq, counters.retired, counters.manuals)
        for _, position in self._rows("position", Position):
            position.contract = self._contract(position.contract)
            exchange.accounts.positions[position.account, position.contract.con_id] = position
        for _, execution in self._rows("execution", Execution):
            contract = self._contract(execution.contract)
            exchange.executions.append(msgspec.structs.replace(execution, contract=contract))
        for _, group in self._rows("group", tuple[str, str]):
            exchange.groups.close(group)
        for _, order in self._rows("done", Order):
            order.contract = self._contract(order.contract)
            exchange.done[order.key] = order
        for _, live in self._rows("order", Live):
            live.order.contract = self._contract(live.order.contract)
            try:
                exchange.readmit(live.order, live.working)
            except ComboError as problem:
                raise StateError(f"state file {self.path}: order {live.order.perm_id}: {problem}; add the contracts "
                                 "that it needs, or name another file") from None
        for reaction in counters.reactions:
            exchange.timetable.react_later(reaction)

    def _contract(self, stored: Contract) -> Contract:
        """Return the gateway's own contract of this conId; one that it does not know any more is added."""
        if stored.sec_type == "BAG":
            return stored                     # known by its legs, which `readmit` gives back to the combinations
        contracts = self._exchange.contracts
        known = contracts.get(stored.con_id)
        if known is None:
            contracts.add(stored)
        return known or stored

    # writing ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Commit what has changed since the last time; cheap when nothing has."""
        exchange = self._exchange
        noted, touched, corrected = exchange.noted, exchange.accounts.touched, exchange.corrected
        if noted is None:
            return                            # not loaded yet
        counters = self._counters()
        if not (noted or touched or corrected) and counters == self._told:
            return
        try:
            self._write(counters)
        except sqlite3.Error as problem:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise CannotKeep(f"state file {self.path}: cannot be written: {problem}") from None
        self._told, self._executed = counters, exchange.executed
        noted.clear()
        touched.clear()
        corrected.clear()

    def _write(self, counters: bytes) -> None:
        exchange = self._exchange
        self._db.execute("BEGIN IMMEDIATE")
        for order in (exchange.noted or {}).values():
            self._put_order(order)
        self._put_executions(exchange.executed - self._executed)
        for number, execution in exchange.corrected.items():
            self._db.execute(PUT, ("execution", str(number), number, self._encode(execution)))
        for key in exchange.accounts.touched:
            self._put_position(key, exchange.accounts.positions[key])
        self._db.execute(PUT, ("counters", "", 0, counters))
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Keep what is left to keep and let go of the file; raises CannotKeep."""
        try:
            self.save()
        finally:
            self._db.close()

    def _counters(self) -> bytes:
        exchange, identity = self._exchange, self._identity
        seq, retired, manuals = exchange.counts()
        return self._encode(Counters(
            accounts=identity.accounts, perm_id=identity.perm_ids.value, exec_number=identity.exec_numbers.value,
            executed=exchange.executed, retired=retired, seq=seq, manuals=manuals, last_id=exchange.last_id,
            cash=exchange.accounts.cash, reactions=list(exchange.timetable.reactions.values())))

    def _put_order(self, order: Order) -> None:
        exchange = self._exchange
        key = f"{order.key[0]}:{order.key[1]}"
        if exchange.orders.get(order.key) is order:
            if order.perm_id:
                working = order.key in exchange.book(order.contract.con_id).orders
                self._db.execute(PUT, ("order", key, order.seq, self._encode(Live(order, working))))
        else:
            self._db.execute("DELETE FROM fact WHERE kind = 'order' AND key = ?", (key,))
            if exchange.done.get(order.key) is order:
                self._db.execute(PUT, ("done", key, order.retired, self._encode(order)))
                self._forget_old("done", order.retired)
        if order.oca_group and exchange.groups.is_filled(order):
            self._db.execute(PUT, ("group", "\0".join(order.group), order.retired, self._encode(order.group)))

    def _put_executions(self, fresh: int) -> None:
        exchange = self._exchange
        for back in range(min(fresh, len(exchange.executions)), 0, -1):
            execution, number = exchange.executions[-back], exchange.executed - back + 1
            self._db.execute(PUT, ("execution", str(number), number, self._encode(execution)))
        if fresh:
            self._forget_old("execution", exchange.executed)

    def _put_position(self, key: tuple[str, int], position: Position) -> None:
        number = list(self._exchange.accounts.positions).index(key)
        self._db.execute(PUT, ("position", f"{key[0]}:{key[1]}", number, self._encode(position)))

    def _forget_old(self, kind: str, newest: int) -> None:
        over = newest - self._exchange.rules.completed_cap
        if over > 0:
            self._db.execute("DELETE FROM fact WHERE kind = ? AND number <= ?", (kind, over))
