"""The client for strategies: one small class over the HTTP control plane; the command line uses it too.

Law: what was refused raises, with the engine's own sentence. Nothing is retried here: whoever calls decides, and the
same signal_id or command_id is never carried out twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlsplit

import httpx
import msgspec

DEFAULT_URL = "http://127.0.0.1:8765"


class Accepted(NamedTuple):
    """The engine took it. `repeated`: the same intent had been taken before, and this is its bracket."""

    bracket_id: str
    code: str
    sentence: str
    repeated: bool = False


@dataclass
class ClientError(Exception):
    """What all refusals have: a stable `code`, the `field` if one is to blame, a `sentence`, and the HTTP `status`."""

    code: str
    field: str | None
    sentence: str
    status: int = 0

    def __str__(self) -> str:
        return self.sentence


class Refused(ClientError):
    """The intent or verb is not acceptable as it is; asking again in the same words will not help."""


class UnknownBracket(ClientError):
    """There is no such bracket."""


class EngineGone(ClientError):
    """The engine is not there, not ready, or did not answer; what it did with the request may be unknown."""


class Bracketeer:
    """Speak to a running engine.

    A complete strategy::

        from actors.web.client import Bracketeer, Refused

        with Bracketeer.of_state("state") as engine:
            try:
                bracket = engine.submit({
                    "signal_id": "momentum-2026-11-20-AAPL",
                    "strategy": "Momentum_EQ",
                    "instrument": "AAPL",
                    "side": "BUY",
                    "quantity": "100",
                    "urgency": "Normal",
                    "time_in_force": "DAY",
                    "max_slippage_bps": None,
                    "expiry_policy": "hold",
                    "risk_tags": [],
                    "order_type": "LMT",
                    "limit_price": "100",
                    "exits": [{"target": {"price": "110"}, "stop": {"price": "95"}}],
                })
            except Refused as refused:
                raise SystemExit(str(refused))
            for event in engine.events():
                print(event["seq"], event["type"])
                if event["bracket_id"] == bracket.bracket_id and event["payload"].get("phase") == "CLOSED":
                    break

    Events are dicts with seq, key, bracket_id, type, ts_ns and payload. Errors: Refused, UnknownBracket, EngineGone.
    """

    def __init__(self, url: str = DEFAULT_URL, token: str = "", timeout_s: float = 20.0) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        # No proxy from the environment: this goes to the same machine only.
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    @classmethod
    def of_state(cls, state_dir: str | Path, url: str | None = None) -> Self:
        """Find address and token in an engine's state folder. Raises EngineGone if nothing was ever started there."""
        folder = Path(state_dir)
        try:
            found = url or (folder / "http").read_text().strip()
            token = (folder / "token").read_text().strip()
        except OSError:
            sentence = f"no engine has been started in {folder}; start one with `run.py start --state {folder}`"
            raise EngineGone("engine_gone", None, sentence) from None
        return cls(found, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- commands ----------------------------------------------------------------------------------------------

    def submit(self, intent: dict[str, Any] | msgspec.Struct | bytes | str) -> Accepted:
        """Send one intent: a dict, an Intent, or JSON. Raises Refused with field, value and rule, or EngineGone."""
        if isinstance(intent, str):
            body = intent.encode()
        else:
            body = intent if isinstance(intent, bytes) else msgspec.json.encode(intent)
        response = self._send("POST", "/v1/intents", body)
        answer = response.json()
        return Accepted(answer["bracket_id"], answer["code"], answer["sentence"], response.status_code == 200)

    def cancel_entry(self, bracket_id: str, command_id: str | None = None) -> Accepted:
        """Cancel what is left of the entry; what is filled stays protected."""
        return self._verb(bracket_id, "cancel-entry", command_id)

    def cancel(self, bracket_id: str, command_id: str | None = None) -> Accepted:
        """End a bracket of which nothing is filled; refused otherwise."""
        return self._verb(bracket_id, "cancel", command_id)

    def flatten(self, bracket_id: str, command_id: str | None = None) -> Accepted:
        """Cancel everything, close what is open at the market, end."""
        return self._verb(bracket_id, "flatten", command_id)

    def detach(self, bracket_id: str, command_id: str | None = None) -> Accepted:
        """Stop managing the bracket; its orders stay at the venue as they are."""
        return self._verb(bracket_id, "detach", command_id)

    def modify(self, bracket_id: str, command_id: str | None = None, **changes: Decimal | int | str) -> Accepted:
        """Change limit_price, stop_price, quantity, target, stop, trail_amount or trail_percent (of a `tranche`)."""
        body = msgspec.json.encode(changes)
        return self._accepted(self._send("PATCH", self._path(bracket_id), body, command_id or secrets.token_hex(12)))

    # -- reading -----------------------------------------------------------------------------------------------

    def brackets(self, limit: int = 100, live: bool = False, before: str | None = None) -> list[dict[str, Any]]:
        """Return brackets, newest first, at most 1,000; `live` leaves out those that are over."""
        more = f"&before={quote(before, safe='')}" if before else ""
        return self._list(f"/v1/brackets?limit={limit}&live={str(live).lower()}{more}")

    def bracket(self, bracket_id: str) -> dict[str, Any]:
        """Return one bracket and its whole story. Raises UnknownBracket."""
        return self._get(self._path(bracket_id))

    def orders(self, bracket_id: str | None = None, full: bool = False) -> list[dict[str, Any]]:
        """Return orders with the nine fields of the order schema, or with every column (`full`)."""
        more = f"&bracket_id={quote(bracket_id, safe='')}" if bracket_id else ""
        return self._list(f"/v1/orders?full={str(full).lower()}{more}")

    def positions(self) -> list[dict[str, Any]]:
        return self._list("/v1/positions")

    def status(self) -> dict[str, Any]:
        """Return what every service says of itself. Raises EngineGone."""
        return self._get("/v1/status")

    def ready(self) -> str:
        """Return the empty string if orders can be sent now, else the reason why not. Raises EngineGone."""
        try:
            self._send("GET", "/readyz")
        except EngineGone as gone:
            if gone.code == "not_ready":
                return gone.sentence
            raise
        return ""

    def events(self, after: int = 0, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield every event with a sequence number above `after`, then each new one as it is committed.

        Alerts and session changes come between them with seq None. With `timeout_s`, end when nothing came for so
        long. Raises EngineGone when the stream breaks: come back with the last seq.
        """
        from websockets.exceptions import ConnectionClosed, WebSocketException
        from websockets.sync.client import connect

        url = f"ws://{urlsplit(self.url).netloc}/v1/events?after={after}"
        try:
            with connect(url, proxy=None, max_size=1 << 22, open_timeout=self._timeout_s, close_timeout=1) as stream:
                while True:
                    yield msgspec.json.decode(stream.recv(timeout_s))
        except TimeoutError:
            return
        except (ConnectionClosed, WebSocketException, OSError) as problem:
            raise EngineGone("engine_gone", None, f"the event stream of {self.url} ended: {problem}") from None

    # -- HTTP --------------------------------------------------------------------------------------------------

    def _path(self, bracket_id: str) -> str:
        return f"/v1/brackets/{quote(bracket_id, safe='')}"

    def _get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._send("GET", path).json()
        return found

    def _list(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._send("GET", path).json()
        return found

    def _verb(self, bracket_id: str, verb: str, command_id: str | None) -> Accepted:
        path = f"{self._path(bracket_id)}/{verb}"
        return self._accepted(self._send("POST", path, b"", command_id or secrets.token_hex(12)))

    @staticmethod
    def _accepted(response: httpx.Response) -> Accepted:
        answer = response.json()
        return Accepted(answer["bracket_id"], answer["code"], answer["sentence"])

    def _send(self, method: str, path: str, body: bytes | None = None, command_id: str = "") -> httpx.Response:
        headers = {"accept": "application/json"}
        if body is not None:
            headers |= {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        if command_id:
            headers["idempotency-key"] = command_id
        try:
            response = self._http.request(method, path, content=body, headers=headers)
        except httpx.TimeoutException:
            sentence = f"the engine at {self.url} did not answer within {self._timeout_s:g} s"
            raise EngineGone("timeout", None, sentence) from None
        except (httpx.HTTPError, OSError):
            sentence = f"no engine answers at {self.url}; start one with `run.py start`"
            raise EngineGone("engine_gone", None, sentence) from None
        if response.is_success:
            return response
        raise self._error(response)

    @staticmethod
    def _error(response: httpx.Response) -> ClientError:
        status = response.status_code
        try:
            said = response.json()
            parts = said["code"], said["field"], said["sentence"], status
        except (ValueError, KeyError, TypeError):
            parts = "http", None, f"HTTP {status} without a reason; is this a Bracketeer engine?", status
        if status == 404 and parts[0] == "unknown_bracket":
            return UnknownBracket(*parts)
        return (EngineGone if status >= 500 else Refused)(*parts)
