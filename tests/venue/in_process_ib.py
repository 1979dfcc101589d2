"""The real client libraries inside an in-process gateway: their own Client, decoder, wrapper and IB, on its clock.

Law: nothing of a library is replaced but where it asks the machine for the time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import ib_async
import ib_insync

from actors.venue.simulator.in_process import InProcess
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.virtual import NS, Latency

LIBRARIES = (ib_insync, ib_async)


class IbWorld(InProcess):
    """An in-process gateway whose clients are ib_insync or ib_async."""

    def ib(self, client_id: int = 1, library: ModuleType = ib_insync, timeout: float = 10) -> Any:
        """Return a connected IB object; raises what its connectAsync raises."""
        ib = library.IB()
        ib.client.MaxRequests = 0       # the library's own throttle is no part of what is shown
        self.run(ib.connectAsync(self.host, self.port, clientId=client_id, timeout=timeout))
        return ib


@contextmanager
def ib_world(latency: Latency | None = None, **settings: Any) -> Iterator[IbWorld]:
    """An in-process gateway; prices stand still unless the settings name what moves them."""
    settings.setdefault("walk_interval", 10**7)
    with IbWorld(GatewaySettings(**settings), latency=latency) as world, _clocks_of(world):
        yield world


@contextmanager
def _clocks_of(world: IbWorld) -> Iterator[None]:
    class Instants(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, dt.datetime)

    class Datetime(dt.datetime, metaclass=Instants):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return dt.datetime.fromtimestamp(world.now_ns / NS, tz)

    clock = SimpleNamespace(time=lambda: world.now_ns / NS)
    calendar = SimpleNamespace(**{**vars(dt), "datetime": Datetime})
    with ExitStack() as stack:
        for library in LIBRARIES:
            stack.enter_context(mock.patch.object(library.wrapper, "datetime", Datetime))
            stack.enter_context(mock.patch.object(library.ib, "datetime", calendar))
            for module in (library.client, library.ib, library.wrapper):
                if hasattr(module, "time"):
                    stack.enter_context(mock.patch.object(module, "time", clock))
        yield
