"""What the writer does with its database: append a group of records, read back what a start needs, reserve ids.

Law: a group of records and all that follows from them reach the disk in one transaction or not at all. A record that
the database will never take does not hold up the others: it is kept whole inside an incident.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from messages.base import Message
from messages.ledger import BracketOpened, IncidentRecorded, PositionChanged, StoredBracket
from messages.orders import Definition
from messages.registry import encode
from storage.database import Database, Row, is_transient
from storage.fields import readable
from storage.projections import fold
from storage.tables import Tables

FINAL_PHASES = ("CLOSED", "DETACHED", "DENIED")
"""Phases of actors/rules/bracket.py in which a bracket is over and is not loaded again."""

EVENT_COLUMNS = ("seq", "key", "bracket_id", "bracket_seq", "type", "payload", "reason", "ts_ns")
BATCH_BRACKETS = 200
BATCH_BYTES = 256 * 1024
LARGEST_STORY = 512 * 1024
TRAIL_MARK = b'{"type":"TrailMoved"'
KNOWN_BRACKETS = 50_000
REPEATED_NS = 8 * 86_400 * 1_000_000_000
"""The venue repeats executions of at most seven days."""
LARGEST_INTEGER = 2**63 - 1

_definitions = msgspec.json.Decoder(Definition)


class Entry(NamedTuple):
    """One record on its way to the disk. `token` is the asker's own and comes back untouched."""

    key: str
    bracket_id: str | None
    event: Message
    ts_ns: int
    reason: str = ""
    token: Any = None


class Refused(NamedTuple):
    """A record that was not written as such.

    `code`: duplicate_signal, duplicate_bracket, or unstorable (then an incident holds it).
    """

    entry: Entry
    code: str
    reason: str


CommittedRow = tuple[int, str, "str | None", str, bytes, int]
"""(seq, key, bracket_id, type, payload as JSON, ts_ns), as in messages.ledger.EventsCommitted."""


class Group(NamedTuple):
    """What one commit did: the rows that are new, every entry that is now on the disk, and what was refused.

    Rows of a commit whose answer was lost are not told again: who streams them sees the gap in seq and reads it.
    """

    rows: tuple[CommittedRow, ...]
    done: tuple[Entry, ...]
    refused: tuple[Refused, ...] = ()


class Store:
    """The statements of the writer, on one open database, in one thread."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._tables = Tables()
        self._next_in_bracket: dict[str, int] = {}
        self.unreadable: list[tuple[str, str]] = []
        """Brackets whose definitions could not be read since somebody last looked: (bracket_id, sentence)."""

    # -- writing -------------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> Group:
        """Commit a group. Returns after the commit; raises only what `database.is_transient` knows."""
        try:
            return self._append(entries)
        except Exception as problem:
            if is_transient(problem):
                raise
            if len(entries) > 1:
                halves = (entries[: len(entries) // 2], entries[len(entries) // 2 :])
                groups = [self.append(half) for half in halves]
                return Group(*(tuple(part for group in groups for part in group[i]) for i in range(3)))  # type: ignore[arg-type]
            return self._quarantine(entries[0], problem)

    def _append(self, entries: Sequence[Entry]) -> Group:
        database = self.database
        database.begin()
        try:
            fresh, refused = self._sift(entries)
            rows, records = self._number(fresh)
            if records:
                database.insert_many("events", EVENT_COLUMNS, records)
                self._tables.load(database, [entry.event for entry in fresh])
                for entry, row in zip(fresh, rows, strict=True):
                    fold(self._tables, row[0], entry.event)
                self._tables.write(database)
            database.commit()
        except BaseException:
            self._next_in_bracket.clear()
            database.rollback()
            raise
        finally:
            self._tables.clear()
        refused_entries = {id(refusal.entry) for refusal in refused}
        done = tuple(entry for entry in entries if id(entry) not in refused_entries) if refused else tuple(entries)
        return Group(tuple(rows), done, tuple(refused))

    def _sift(self, entries: Sequence[Entry]) -> tuple[list[Entry], list[Refused]]:
        """Leave out what is on the disk already; refuse two signals for one bracket and two brackets for one signal."""
        known = {row[0] for row in self.database.select_in("events", ("key",), "key", [entry.key for entry in entries])}
        openings = [entry.event for entry in entries if isinstance(entry.event, BracketOpened)]
        names = ("bracket_id", "signal_id")
        rows = self.database.select_in("brackets", names, "bracket_id", [event.bracket_id for event in openings])
        asked = [event.definition.intent.signal_id for event in openings]
        rows += self.database.select_in("brackets", names, "signal_id", asked)
        signal_of: dict[str, str] = dict(rows)
        bracket_of = {signal: bracket for bracket, signal in rows}
        fresh: list[Entry] = []
        refused: list[Refused] = []
        for entry in entries:
            if isinstance(entry.event, BracketOpened):
                bracket, signal = entry.event.bracket_id, entry.event.definition.intent.signal_id
                if signal_of.get(bracket, signal) != signal:
                    sentence = f"bracket_id {bracket!r}: is that of signal {signal_of[bracket]!r}; ids are used once"
                    refused.append(Refused(entry, "duplicate_bracket", sentence))
                    continue
                if bracket_of.get(signal, bracket) != bracket:
                    sentence = f"signal_id {signal!r}: is that of bracket {bracket_of[signal]}; one bracket per signal"
                    refused.append(Refused(entry, "duplicate_signal", sentence))
                    continue
                if bracket in signal_of or entry.key in known:
                    continue
                signal_of[bracket], bracket_of[signal] = signal, bracket
            if entry.key not in known:
                known.add(entry.key)
                fresh.append(entry)
        return fresh, refused

    def _number(self, entries: Sequence[Entry]) -> tuple[list[CommittedRow], list[Row]]:
        """Give each record its place in the order of all records and in that of its bracket."""
        if not entries:
            return [], []
        numbers = self._next_in_bracket
        strangers = {entry.bracket_id for entry in entries if entry.bracket_id is not None} - numbers.keys()
        if strangers:
            if len(numbers) > KNOWN_BRACKETS:
                numbers.clear()
                strangers = {entry.bracket_id for entry in entries if entry.bracket_id is not None}
            numbers.update(dict.fromkeys((name for name in strangers if name is not None), 1))
            for name, last in self.database.select_in(
                "events", ("bracket_id", "max(bracket_seq)"), "bracket_id", strangers, "GROUP BY bracket_id"
            ):
                numbers[name] = last + 1
        seq = int(self.database.execute("SELECT coalesce(max(seq), 0) FROM events")[0][0])
        rows: list[CommittedRow] = []
        records: list[Row] = []
        for entry in entries:
            seq += 1
            key, bracket_id, event, ts_ns, reason, _ = entry
            place = None
            if bracket_id is not None:
                place = numbers[bracket_id]
                numbers[bracket_id] = place + 1
            payload, name = encode(event), type(event).__name__
            rows.append((seq, key, bracket_id, name, payload, ts_ns))
            records.append((seq, key, bracket_id, place, name, payload.decode(), readable(reason), ts_ns))
        return rows, records

    def _quarantine(self, entry: Entry, problem: Exception) -> Group:
        """Keep a record that cannot be stored as an incident: its content in words, under a key of its own."""
        why = f"{type(problem).__name__}: {problem}".strip()
        sentence = readable(f"record {entry.key!r} could not be stored ({why}): {entry.event!r}")
        ts_ns = entry.ts_ns if abs(entry.ts_ns) <= LARGEST_INTEGER else 0
        incident = IncidentRecorded(bracket_id=None, code="unstorable", sentence=sentence, ts_ns=ts_ns)
        kept = self._append([Entry(readable(f"unstorable:{entry.key}"), None, incident, ts_ns)])
        return Group(kept.rows, (), (Refused(entry, "unstorable", sentence),))

    def begin_epoch(self, holder: str) -> int:
        """Count this start of a writer and return its number, from 1."""
        found = 0

        def work() -> None:
            nonlocal found
            rows = self.database.execute("SELECT epoch FROM lease WHERE name = ?", ("writer",))
            found = int(rows[0][0]) + 1 if rows else 1
            if rows:
                values = (found, holder, "writer")
                self.database.execute("UPDATE lease SET epoch = ?, holder = ? WHERE name = ?", values)
            else:
                self.database.execute("INSERT INTO lease VALUES (?, ?, ?, ?)", ("writer", found, holder, 0))

        self.database.in_transaction(work)
        return found

    def reserve(self, name: str, count: int, at_least: int = 0) -> tuple[int, int]:
        """Set a block of ids aside and return its first and last, above `at_least` and every earlier block."""
        if not 1 <= count <= 1_000_000 or not 0 <= at_least <= LARGEST_INTEGER - count:
            raise ValueError(f"id block {name!r}: {count} ids above {at_least} is not 1 to 1,000,000 ids of 63 bits")
        found = (0, 0)

        def work() -> None:
            nonlocal found
            rows = self.database.execute("SELECT reserved_up_to FROM id_blocks WHERE name = ?", (name,))
            base = max(at_least, int(rows[0][0]) if rows else 0)
            found = (base + 1, base + count)
            if rows:
                self.database.execute("UPDATE id_blocks SET reserved_up_to = ? WHERE name = ?", (found[1], name))
            else:
                self.database.execute("INSERT INTO id_blocks VALUES (?, ?)", (name, found[1]))

        self.database.in_transaction(work)
        return found

    # -- reading back ------------------------------------------------------------------------------------------------

    def signals(self) -> dict[str, tuple[str, str]]:
        """Return signal_id -> (bracket_id, digest of the intent's content) of every bracket ever opened."""
        rows = self.database.execute("SELECT signal_id, bracket_id, digest FROM brackets")
        return {signal: (bracket, digest) for signal, bracket, digest in rows}

    def open_brackets(self) -> list[str]:
        """Return the ids of the brackets that are not over, oldest first."""
        marks = ", ".join("?" * len(FINAL_PHASES))
        rows = self.database.execute(
            f"SELECT bracket_id FROM brackets WHERE phase NOT IN ({marks}) ORDER BY opened_ns, bracket_id", FINAL_PHASES
        )
        return [row[0] for row in rows]

    def stored_brackets(self, ids: Sequence[str]) -> list[StoredBracket]:
        """Return these brackets with their records, in the order of `ids`."""
        columns = ("bracket_id", "definition")
        definitions: dict[str, str] = dict(self.database.select_in("brackets", columns, "bracket_id", ids))
        events: dict[str, list[bytes]] = {name: [] for name in ids}
        for bracket, kind, payload in self.database.select_in(
            "events", ("bracket_id", "type", "payload"), "bracket_id", ids, "ORDER BY bracket_id, bracket_seq"
        ):
            if kind != "BracketOpened":
                events[bracket].append(payload.encode())
        found: list[StoredBracket] = []
        for name in ids:
            if name in definitions:
                try:
                    definition = _definitions.decode(definitions[name])
                except msgspec.DecodeError as problem:  # one that another version wrote must not hide the others
                    self.unreadable.append((name, f"bracket {name}: its definition cannot be read: {problem}"))
                    continue
                found.append(StoredBracket(definition=definition, events=_bounded(events[name])))
        return found

    def positions(self) -> tuple[tuple[PositionChanged, ...], tuple[str, ...]]:
        """Return every current position, and the exec_ids booked in them that the venue might repeat."""
        names = "account, conid, strategy_id, instrument, quantity, avg_price, realized_pnl, multiplier, risk_tags"
        found = [
            msgspec.convert(
                {
                    "type": "PositionChanged",
                    "account": account,
                    "conid": conid,
                    "strategy": strategy,
                    "instrument": instrument,
                    "quantity": quantity,
                    "avg_price": avg_price,
                    "realized_pnl": realized,
                    "multiplier": multiplier,
                    "risk_tags": msgspec.json.decode(tags),
                    "exec_id": exec_id,
                    "ts_ns": ts_ns,
                },
                PositionChanged,
            )
            for account, conid, strategy, instrument, quantity, avg_price, realized, multiplier, tags, exec_id, ts_ns
            in self.database.execute(
                f"SELECT {names}, exec_id, updated_ns FROM positions_current ORDER BY account, conid, strategy_id"
            )
        ]
        newest = self.database.execute("SELECT max(ts_ns) FROM positions_history")[0][0] or 0
        rows = self.database.execute(
            "SELECT exec_id FROM positions_history WHERE ts_ns >= ? ORDER BY seq", (newest - REPEATED_NS,)
        )
        return tuple(found), tuple(dict.fromkeys(row[0] for row in rows))


def _bounded(events: list[bytes]) -> tuple[bytes, ...]:
    """Leave old marks of trailing stops out of a story that would not fit into one message; the newest 50 tell all."""
    if sum(map(len, events)) > LARGEST_STORY:
        marks = [place for place, payload in enumerate(events) if payload.startswith(TRAIL_MARK)]
        old = set(marks[:-50])
        events = [payload for place, payload in enumerate(events) if place not in old]
    return tuple(events)


def in_batches(brackets: Sequence[StoredBracket]) -> Iterator[tuple[StoredBracket, ...]]:
    """Cut brackets into messages of a modest size."""
    batch: list[StoredBracket] = []
    size = 0
    for bracket in brackets:
        weight = 1_500 + sum(map(len, bracket.events))
        if batch and (size + weight > BATCH_BYTES or len(batch) >= BATCH_BRACKETS):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(bracket)
        size += weight
    if batch:
        yield tuple(batch)
