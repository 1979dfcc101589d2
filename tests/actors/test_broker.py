"""The broker as an actor, on both bases, against the simulated gateway over a real socket."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from actors.host import EMBEDDED, ISOLATED, Host
from messages.orders import CancelOrder, OwnBracket
from messages.session import DescribeService, ServiceDescribed
from messages.settings import SystemSettings
from messages.supervision import ServiceSpec
from tests import builders
from tests.actors.broker_standins import Break, PassOn
from tests.venue.driver import GatewayThread, venue_settings

pytestmark = pytest.mark.integration
ACCOUNT = "DU1000001"
LISTENERS = ("ledger", "risk", "position", "market_data", "router", "control")


class Engine:
    """A host with a broker, an owner, and listeners for every other service."""

    def __init__(self, base: str, gateway: GatewayThread, state_dir: Path, library: str) -> None:
        self.gateway, self.state_dir = gateway, state_dir
        settings = venue_settings(gateway.port, library=library)
        settings = msgspec.structs.replace(settings, system=SystemSettings(base=base, state_dir=str(state_dir)))
        self.host = Host(settings, base)
        around = [
            ServiceSpec(name=name, actor=f"tests.actors.broker_standins.{'Ledger' if name == 'ledger' else 'Listener'}")
            for name in LISTENERS
        ]
        self.host.start((
            *around,
            ServiceSpec(name="broker", actor="tests.actors.broker_standins.FragileBroker"),
            ServiceSpec(name="owner", actor="tests.actors.broker_standins.Owner"),
        ))
        self.until(lambda: self.host.started is not None, "the engine to start")
        self.owner = self.host.address_of("owner")

    def until(self, condition, what: str) -> None:
        if not self.host.run_until(condition, 45.0):
            heard = {name: self.heard(name)[-5:] for name in ("owner", "control")}
            raise AssertionError(f"waited in vain for {what}; last heard: {heard}")

    def heard(self, name: str) -> list[str]:
        path = self.state_dir / f"{name}.heard"
        return path.read_text().splitlines() if path.exists() else []

    def kinds(self, name: str) -> list[str]:
        return [line.split(" ", 1)[0] for line in self.heard(name)]

    def await_kind(self, name: str, kind: str, count: int = 1) -> None:
        self.until(lambda: self.kinds(name).count(kind) >= count, f"{count} {kind} at {name}")

    def command(self, command) -> None:
        self.host.tell(PassOn(command=command), self.owner)

    def own(self) -> None:
        self.command(OwnBracket(
            bracket_id="B1-test", incarnation=1, contract=builders.contract(), account=ACCOUNT, strategy="Momentum_EQ",
            entry_filled=Decimal(0), exit_filled=Decimal(0), fresh=True))


@pytest.fixture(params=[(EMBEDDED, "ib_insync"), (EMBEDDED, "ib_async"), (ISOLATED, "ib_insync")],
                ids=["embedded", "embedded-ib_async", "isolated"])
def engine(request, tmp_path):
    base, library = request.param
    with GatewayThread() as gateway:
        made = Engine(base, gateway, tmp_path, library)
        try:
            yield made
        finally:
            made.host.stop()


def test_a_bracket_is_owned_sent_filled_and_told_to_everybody_once(engine):
    engine.await_kind("router", "GateOpened")
    engine.own()
    engine.command(builders.submit(account=ACCOUNT, limit=110))
    engine.await_kind("owner", "CommissionReported")
    kinds = engine.kinds("owner")
    assert [k for k in kinds if k not in ("OrderEchoed",)] == [
        "BracketPictured", "OrderSubmitted", "OrderAccepted", "OrderFilled", "CommissionReported"]
    for service in ("ledger", "position"):
        engine.await_kind(service, "CommissionReported")
        assert engine.kinds(service).count("OrderFilled") == 1
    engine.await_kind("risk", "OrderFilled")
    assert engine.gateway.placed() == ["B1-test.entry"]
    assert engine.gateway.heard("placeOrder")[0]["orderId"] > 5_000, "ids start above every durable block"


def test_a_broker_that_fails_is_rebuilt_and_nothing_is_sent_twice(engine):
    engine.await_kind("router", "GateOpened")
    engine.own()
    engine.command(builders.submit(account=ACCOUNT, limit=90))
    engine.await_kind("owner", "OrderAccepted")
    engine.command(Break())
    engine.gateway.fill("B1-test.entry", 40, "90")
    engine.await_kind("router", "GateOpened", 2)
    engine.await_kind("owner", "BracketPictured", 2)
    engine.await_kind("owner", "OrderFilled")
    engine.command(builders.submit(account=ACCOUNT, limit=90))
    engine.command(CancelOrder(command_id="c", bracket_id="B1-test", order_id="B1-test.entry", incarnation=1,
                               reason="test"))
    engine.await_kind("owner", "OrderCanceled")
    assert engine.gateway.placed() == ["B1-test.entry"]
    assert "live=True" in next(line for line in reversed(engine.heard("owner")) if line.startswith("BracketPictured"))


def test_the_broker_describes_itself_in_plain_data(engine):
    engine.await_kind("router", "GateOpened")
    answer = engine.host.ask(DescribeService(correlation="x"), "broker", timeout=45.0)
    assert isinstance(answer, ServiceDescribed)
    assert answer.facts["ready"] is True
    assert answer.facts["account"] == ACCOUNT
    assert msgspec.json.decode(msgspec.json.encode(answer.facts)) == answer.facts
