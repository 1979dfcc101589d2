"""A client of the gateway's control interface, for tests and for tools: one call, one command.

    with Control(port, token) as gateway:
        gateway.fault("drop_before_ack:order=reached,after=3")
        gateway.price("AAPL", last="101.5")

Law: it says what it is told to say; what is refused comes back as ControlError with the gateway's own sentence.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

import msgspec

DEADLINE_S = 10.0


class ControlError(RuntimeError):
    """The gateway refused a command, or is not there any more."""


class Control:
    """One connection to the control port. Raises ControlError when the token is wrong."""

    def __init__(self, port: int, token: str, host: str = "127.0.0.1", timeout_s: float = DEADLINE_S) -> None:
        self._socket = socket.create_connection((host, port), timeout_s)
        self._file = self._socket.makefile("rb")
        try:
            self._say({"token": token})
        except ControlError:
            self.close()
            raise

    def __enter__(self) -> Control:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def fault(self, fault: str | dict[str, Any]) -> int:
        """Set a fault, as the command line spells it or as its fields, and return its number."""
        if isinstance(fault, str):
            return int(self.do("fault_text", text=fault)["number"])
        return int(self.do("fault", **fault)["number"])

    def faults(self) -> list[dict[str, Any]]:
        """Return every fault that is set, with how often it was met and acted."""
        found: list[dict[str, Any]] = self.do("faults")["faults"]
        return found

    def remove(self, number: int | None = None) -> None:
        """Remove one fault, or all."""
        self.do("remove", number=number)

    def price(self, symbol: str, **fields: Any) -> None:
        """Move a price: last, bid, ask, bid_size, ask_size, size; numbers or text."""
        self.do("price", symbol=symbol, **fields)

    def fill(self, order_ref: str, quantity: Any = None, price: Any = None) -> None:
        """Fill the first live order that fits the glob: all that remains, at its own price, unless given."""
        self.do("fill", order_ref=order_ref, quantity=quantity, price=price)

    def reject(self, order_ref: str, **fields: Any) -> None:
        self.do("reject", order_ref=order_ref, **fields)

    def refuse_next(self, order_ref: str, **fields: Any) -> None:
        self.do("refuse_next", order_ref=order_ref, **fields)

    def cancel(self, order_ref: str, **fields: Any) -> None:
        """Cancel an order as the venue does unasked."""
        self.do("cancel", order_ref=order_ref, **fields)

    def halt(self, symbol: str, halted: int = 1) -> None:
        self.do("halt", symbol=symbol, halted=halted)

    def disconnect(self, client_id: int | None = None) -> int:
        """Close the connection of one client, or of all; return of how many."""
        return int(self.do("disconnect", client_id=client_id)["clients"])

    def status(self) -> dict[str, Any]:
        return self.do("status")

    def do(self, what: str, **args: Any) -> dict[str, Any]:
        """Give any command; raises ControlError with the gateway's sentence when it is refused."""
        return self._say({"do": what, "args": args})

    def _say(self, line: dict[str, Any]) -> dict[str, Any]:
        try:
            self._socket.sendall(msgspec.json.encode(line) + b"\n")
            heard = self._file.readline()
        except OSError as error:
            raise ControlError(f"the control interface is gone: {error}") from None
        if not heard:
            raise ControlError("the control interface has closed the connection")
        answer: dict[str, Any] = msgspec.json.decode(heard)
        if not answer.pop("ok"):
            raise ControlError(str(answer["error"]))
        return answer
