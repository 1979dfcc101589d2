"""Many intents as fast as they are taken: over the Unix socket, many in flight, and over HTTP, some threads.

Law: an intent counts as acknowledged when its answer has been read, not when it was sent.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from actors.web.channel import Answered, Splitter, Submit, find_socket_path, pack, read_reply

Answers = dict[str, Answered]
"""signal_id -> what was answered."""


def intent(signal_id: str, **changes: Any) -> dict[str, Any]:
    """Return the worked example with another signal; the entry rests where no quiet market comes."""
    return {
        "signal_id": signal_id, "strategy": "Momentum_EQ", "instrument": "AAPL", "side": "BUY", "quantity": "10",
        "urgency": "Normal", "time_in_force": "DAY", "max_slippage_bps": None, "expiry_policy": "hold",
        "risk_tags": [], "order_type": "LMT", "limit_price": "90",
        "exits": [{"target": {"price": "110"}, "stop": {"price": "85"}}], **changes,
    }  # fmt: skip


def over_socket(state: str, intents: Sequence[dict[str, Any]], window: int = 200, seconds: float = 60) -> Answers:
    """Send intents with at most `window` unanswered; return when all are answered. Raises OSError when cut off."""
    answers: Answers = {}
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(find_socket_path(state))
        splitter, sent = Splitter(), 0
        while len(answers) < len(intents):
            room = window - (sent - len(answers))
            batch = intents[sent : sent + room] if room >= window // 2 or sent + room >= len(intents) else []
            if batch:
                frames = [pack(Submit(id=sent + at, intent=msgspec.Raw(json.dumps(each).encode())))
                          for at, each in enumerate(batch)]  # fmt: skip
                peer.sendall(b"".join(frames))
                sent += len(batch)
            peer.settimeout(max(0.01, deadline - time.monotonic()))
            data = peer.recv(1 << 18)
            if not data:
                raise ConnectionResetError(f"hung up after {len(answers)} of {len(intents)} answers")
            for body in splitter.feed(data):
                reply = read_reply(body)
                if isinstance(reply, Answered):
                    answers[intents[reply.id]["signal_id"]] = reply
    return answers


def over_http(state: str, intents: Sequence[dict[str, Any]], threads: int = 8) -> Answers:
    """Send intents by POST /v1/intents over kept connections, one a thread; return when all are answered."""
    url = urlsplit((Path(state) / "http").read_text().strip())
    token = (Path(state) / "token").read_text().strip()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    answers: Answers = {}
    failures: list[BaseException] = []

    def send(share: Sequence[dict[str, Any]]) -> None:
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        try:
            for each in share:
                connection.request("POST", "/v1/intents", json.dumps(each).encode(), headers)
                response = connection.getresponse()
                body = json.loads(response.read())
                answers[each["signal_id"]] = Answered(
                    id=0, accepted=response.status in (200, 201), code=body["code"], sentence=body["sentence"],
                    bracket_id=body.get("bracket_id"),
                )  # fmt: skip
        except BaseException as problem:
            failures.append(problem)
        finally:
            connection.close()

    workers = [threading.Thread(target=send, args=(intents[at::threads],)) for at in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return answers
