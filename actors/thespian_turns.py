"""One sender is heard in the order in which it spoke, in the TCP base too: a line for each peer before its socket.

Law: the transport is given one message for each peer at a time, and the next one when that has arrived or failed. Its
own docstring takes that for granted, and nothing in 4.0.1 sees to it: two connections may lie between two actors, since
either may have opened one, and a message that finds one of them free overtakes those that wait for the other. Five in
a hundred bursts between actors that spoke to each other at once came in another order.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import Any

from thespian.system.transport import SendStatus
from thespian.system.transport.TCPTransport import TCPTransport, opsKey

RETRY_PERIOD = timedelta(milliseconds=50)
"""Times the number of attempts: how soon a message goes again whose connection was closed under it (both had opened
one at once). As shipped it is 35 s, which only the messages that overtake it make shorter."""

_schedule = TCPTransport._scheduleTransmitActual
_finish = TCPTransport._finishIntent
_step = TCPTransport._nextTransmitStep


def _schedule_in_turn(self: Any, intent: Any, has_exclusive_flag: bool = False) -> None:
    """Send at once where nothing else is on its way to that peer, else stand in line."""
    if intent.targetAddr == self.myAddress:
        _schedule(self, intent, has_exclusive_flag)
        return
    intent.transmit_retry_period = RETRY_PERIOD
    intent.peer = opsKey(intent.targetAddr)
    line = self.__dict__.setdefault("_lines", {}).setdefault(intent.peer, deque())
    line.append(intent)
    if len(line) == 1:
        _schedule(self, intent, has_exclusive_flag)


def _finish_in_turn(self: Any, intent: Any, status: Any = SendStatus.Sent) -> Any:
    """Finish a message, and send the next one in its line."""
    result = _finish(self, intent, status)
    lines = self.__dict__.get("_lines", {})
    peer = intent.__dict__.pop("peer", None)
    line = lines.get(peer)
    if not line or line[0] is not intent:
        return result
    line.popleft()
    if not getattr(self, "_moving", False):  # else this one failed at once, within the loop of another
        self._moving = True
        try:
            _move(self, line)
        finally:
            self._moving = False
        if not line:
            del lines[peer]
    return result


def _move(self: Any, line: deque[Any]) -> None:
    """Send the first in line; where it fails at once, the next."""
    while line:
        first = line[0]
        if first.expired():
            _finish_in_turn(self, first, SendStatus.Failed)
        else:
            _schedule(self, first)
        if line and line[0] is first:
            return


def _step_in_turn(self: Any, intent: Any) -> Any:
    """Take the next step of a transmission; one that was given up without a word must not hold up its line."""
    going_on = _step(self, intent)
    if not going_on and "peer" in intent.__dict__:
        _finish_in_turn(self, intent, SendStatus.Failed)
    return going_on


def install() -> None:
    """Put the lines in place, for all processes that are forked from this one."""
    TCPTransport._scheduleTransmitActual = _schedule_in_turn
    TCPTransport._finishIntent = _finish_in_turn
    TCPTransport._nextTransmitStep = _step_in_turn
