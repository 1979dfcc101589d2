"""The event stream: replayed from the database, then live, every event once and in order."""

import socket
import threading

import pytest

from actors.web import link, stream
from actors.web.client import EngineGone
from messages.session import AlertRaised
from tests.web.fakes import PATIENCE_S, row

pytestmark = pytest.mark.integration


def commit(running, *seqs, tell=True, **payload):
    """Write rows to the database, then tell of them, as the ledger does."""
    rows = [row(seq, **payload) for seq in seqs]
    running.reader.rows += rows
    if tell:
        running.engine.commit(*rows)


def take(events, count):
    return [next(events)["seq"] for _ in range(count)]


def test_it_replays_and_goes_on_live(own):
    commit(own, *range(1, 1_301), tell=False)
    events = own.client.events(after=100, timeout_s=PATIENCE_S)
    assert take(events, 1_200) == list(range(101, 1_301))
    commit(own, 1_301, 1_302)
    assert take(events, 2) == [1_301, 1_302]


def test_there_is_no_gap_and_no_duplicate_while_it_is_being_written(own):
    """Live rows overtake the replay, arrive late, or never arrive: the numbers decide."""
    total = 3_000
    own.reader.rows += [row(seq) for seq in range(1, 500)]

    def write():
        for start in range(500, total + 1, 25):
            commit(own, *range(start, min(start + 25, total + 1)), tell=start % 3 != 0)

    writer = threading.Thread(target=write)
    writer.start()
    seen = take(own.client.events(timeout_s=PATIENCE_S), total)
    writer.join()
    assert seen == list(range(1, total + 1))


def test_a_row_that_was_told_of_before_it_can_be_read_comes_once(own):
    events = own.client.events(timeout_s=PATIENCE_S)
    commit(own, 1, tell=False)
    assert take(events, 1) == [1]
    own.engine.commit(row(2))  # a replica that lags: told, not yet readable
    assert take(events, 1) == [2]
    own.reader.rows.append(row(2))
    commit(own, 3)
    assert take(events, 1) == [3]


def test_a_payload_too_large_for_the_socket_is_read_from_the_database(own):
    events = own.client.events(timeout_s=PATIENCE_S)
    commit(own, 1, note="small")
    assert next(events)["payload"]["note"] == "small"
    commit(own, 2, note="x" * 70_000)
    event = next(events)
    assert (event["seq"], len(event["payload"]["note"])) == (2, 70_000)


def test_what_was_written_while_the_engine_was_away_comes_all_the_same(own, monkeypatch):
    monkeypatch.setattr(stream, "POLL_SECONDS", 0.05)
    events = own.client.events(timeout_s=PATIENCE_S)
    commit(own, 1)
    assert take(events, 1) == [1]
    own.engine.stop()
    commit(own, 2, 3, tell=False)
    assert take(events, 2) == [2, 3]


def test_alerts_come_between_without_a_number(own):
    events = own.client.events(timeout_s=PATIENCE_S)
    commit(own, 1)
    assert take(events, 1) == [1]
    alert = AlertRaised(severity="page", code="x", sentence="look", bracket_id="B1", ts_ns=5)
    own.engine.say("control", alert)
    event = next(events)
    assert (event["seq"], event["type"], event["payload"]["sentence"]) == (None, "AlertRaised", "look")


def test_a_listener_that_was_too_slow_reads_the_database_instead(own, monkeypatch):
    monkeypatch.setattr(link, "BACKLOG", 2)
    events = own.client.events(timeout_s=PATIENCE_S)
    commit(own, 1)
    assert take(events, 1) == [1]
    for seq in range(2, 400):
        commit(own, seq)
    assert take(events, 398) == list(range(2, 400))


def test_a_client_that_does_not_read_disturbs_nobody(own):
    """It never reads; the other one gets everything, and commands are answered."""
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{own.web.port}/v1/events", proxy=None, max_queue=1, close_timeout=0.1) as stuck:
        stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        events = own.client.events(timeout_s=PATIENCE_S)
        for start in range(1, 1_001, 50):
            commit(own, *range(start, start + 50), note="x" * 2_000)
        assert take(events, 1_000) == list(range(1, 1_001))
        assert own.http.get("/livez").status_code == 200


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "", "9" * 30, "１"])
def test_a_bad_start_is_refused(running, after):
    with pytest.raises(EngineGone):
        next(running.client.events(after=after, timeout_s=PATIENCE_S))


@pytest.mark.compliance
@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
def test_a_page_from_elsewhere_cannot_listen(running, headers):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{running.web.port}/v1/events"
    origin = headers.pop("Origin", None)
    with pytest.raises(InvalidStatus), connect(url, proxy=None, origin=origin, additional_headers=headers):
        pass
