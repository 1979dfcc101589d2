"""Four repairs that keep Thespian's simple base flat at size, and the door through which the host drives it.

Law: asserted against thespian 4.0.1 and nothing else. As shipped, every dead actor leaves an entry behind, an exit
compares its address with each sibling's, a send pops from the front of a list, and a message scans every wake-up.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from loguru import logger
from thespian.actors import ActorAddress, ActorExitRequest, ActorSystem, ChildActorExited
from thespian.system.simpleSystemBase import ActorRef, PendingSend
from thespian.system.simpleSystemBase import ActorSystemBase as ShippedBase
from thespian.system.timing import ExpirationTimer

from actors.guard import GuardedActor

REPAIRED_VERSION = "4.0.1"


class Registry(dict):  # type: ignore[type-arg]
    """Repair 1: storing None under a dead address drops it."""

    def __setitem__(self, text: str, ref: Any) -> None:
        if ref is None:
            self.pop(text, None)
        else:
            super().__setitem__(text, ref)


class Children(dict):  # type: ignore[type-arg]
    """Repair 2: a list of addresses to Thespian, keyed by their text, which never changes in this base."""

    def append(self, address: ActorAddress) -> None:
        self[address.actorAddressString] = address

    def index(self, address: ActorAddress) -> str:
        text: str = address.actorAddressString
        if text not in self:
            raise ValueError(text)
        return text

    def __iter__(self) -> Iterator[ActorAddress]:
        return iter(self.values())


NO_CHILDREN = Children()
"""Shared by all who have none; a leaf needs no dict of its own."""


class Sends(deque):  # type: ignore[type-arg]
    """Repair 3: a list to Thespian, popped at its front."""

    def pop(self, index: int = 0) -> PendingSend:
        return self.popleft()


class RepairedRef(ActorRef):  # type: ignore[misc]
    """An actor's place in the repaired base; it offers the host as `ground`."""

    def __init__(self, system: Any, parent: ActorAddress, address: ActorAddress, instance: Any) -> None:
        super().__init__(system, parent, address, instance)
        self._yung = NO_CHILDREN

    def addChild(self, childAddr: ActorAddress) -> None:
        if self._yung is NO_CHILDREN:
            self._yung = Children()
        super().addChild(childAddr)

    @property
    def ground(self) -> Any:
        """The embedded host."""
        return self._system._systemBase.ground

    def actor_send(self, toActorAddr: ActorAddress, msg: Any) -> None:
        self._system._systemBase._pendingSends.append(PendingSend(self._addr, msg, toActorAddr))


class RepairedBase(ShippedBase):  # type: ignore[misc]
    """The simple base, repaired. One thread only."""

    ground: Any = None

    def __init__(self, system: Any, logDefs: Any = None) -> None:
        super().__init__(system, logDefs=logDefs)
        self._pendingSends: Sends = Sends()
        self.actorRegistry: Registry = Registry(self.actorRegistry)
        self._wakeUps: list[Any] = []  # repair 4: a heap of (due, tie, address, timer, payload)
        self._ties = itertools.count()
        self._requester = self.actorRegistry["System:ExternalRequester"]

    # The door for the host.

    def pump(self, limit: int) -> bool:
        """Deliver at most `limit` messages; tell whether some are left."""
        pending = self._pendingSends
        while pending and limit > 0:
            limit -= 1
            self._runSingleSend(pending.popleft())
        return bool(pending)

    def enqueue(self, address: ActorAddress, message: Any) -> None:
        """Put a message from the host in line."""
        self._pendingSends.append(PendingSend(self._requester.address, message, address))

    def take_replies(self) -> list[Any]:
        """Return and forget what was said to the host; unread, it piles up for ever."""
        taken = getattr(self._requester.instance, "responses", None)
        if taken:
            self._requester.instance.responses = []
        self.actorRegistry[self.system.systemAddress.actorAddressString].instance.responses = []
        return taken or []

    def instance_at(self, address: ActorAddress) -> Any:
        """Return the living actor object at an address, or None."""
        ref = self.actorRegistry.get(address.actorAddressString)
        return ref.instance if ref is not None else None

    # What Thespian calls.

    def actor_send(self, fromActor: ActorAddress, toActor: ActorAddress, msg: Any) -> None:
        self._pendingSends.append(PendingSend(fromActor, msg, toActor))

    def _runSingleSend(self, ps: PendingSend) -> None:
        message = ps.msg
        ref = self.actorRegistry.get(ps.toActor._aaddr)
        if (
            ref is not None
            and isinstance(ref._inst, GuardedActor)
            and not isinstance(message, (ActorExitRequest, ChildActorExited))
        ):
            ref._inst.receiveMessage(message, ps.sender)  # its guard lets nothing out
        else:
            super()._runSingleSend(ps)

    def _newRefAndActor(
        self, actorSystem: Any, parentAddr: Any, actorAddr: Any, actorClass: Any, *args: Any, **kw: Any
    ) -> Any:
        if not (isinstance(actorClass, type) and issubclass(actorClass, GuardedActor)):
            return super()._newRefAndActor(actorSystem, parentAddr, actorAddr, actorClass, *args, **kw)
        ref = RepairedRef(actorSystem, parentAddr, actorAddr, None)
        try:
            actor = actorClass()
        except Exception as error:  # the caller tells the creator that its child exited
            if kw.get("isTopLevel"):
                raise
            logger.opt(exception=error).error("{} could not be made: {}", actorClass.__name__, error)
            return ref
        actor._myRef = ref
        ref.instance = actor
        return ref

    def _pop_expired_wakeups(self, ct: float) -> list[Any]:
        expired = []
        while self._wakeUps and self._wakeUps[0][3].view(ct).expired():
            _, _, address, timer, payload = heapq.heappop(self._wakeUps)
            expired.append((address, timer, payload))
        return expired

    def _next_wakeup(self) -> Any:
        return self._wakeUps[0][3] if self._wakeUps else None

    def _add_wakeup(self, from_actor: ActorAddress, time_period: Any, payload: Any) -> None:
        timer = ExpirationTimer(time_period)
        heapq.heappush(self._wakeUps, (timer._time_to_quit, next(self._ties), from_actor, timer, payload))

    def add_wakeups_to_status(self, statusmsg: Any) -> Any:
        statusmsg.addWakeups([(entry[2], entry[3]) for entry in self._wakeUps])
        return statusmsg


class RepairedSystem(ActorSystem):  # type: ignore[misc]
    """An actor system on the repaired base. Raises RuntimeError on any other version of Thespian."""

    def __init__(self) -> None:
        found = version("thespian")
        if found != REPAIRED_VERSION:
            raise RuntimeError(f"thespian {found} is installed; thespian_repairs.py repairs exactly {REPAIRED_VERSION}")
        self._isTransientUnique = True  # not the singleton: tests and tools may hold several
        self.systemAddress = ActorAddress("/ActorSys")
        self.capabilities: dict[str, Any] = {}
        self._systemBase = RepairedBase(self, logDefs=False)
