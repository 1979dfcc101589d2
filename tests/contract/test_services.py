"""The root supervisor: services in order, a Directory for all, restarts, and the end of the engine."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from actors.host import EXIT_SOFTWARE, Host
from messages import supervision
from messages.base import Message, Record
from messages.supervision import ServiceSpec
from tests.contract.toys import Do, Said, ToySettings, WhoAreYou

LISTENER = "tests.contract.toys.Listener"
SERVICES = (
    ServiceSpec(name="ledger", actor=LISTENER),
    ServiceSpec(name="risk", actor=LISTENER, vital=False),
    ServiceSpec(name="router", actor=LISTENER),
)
DIRECTORY = "directory ledger,risk,router"


def test_what_is_said_to_a_service_without_an_address_waits_for_it(base, make_engine) -> None:
    engine = make_engine(base, SERVICES)
    for name in ("ledger", "risk", "router"):
        engine.wait_for(f"{name} {DIRECTORY}")
        engine.wait_for(f"ledger heard hello from {name}")


def test_everybody_learns_the_new_address_after_a_restart(base, make_engine) -> None:
    engine = make_engine(base, SERVICES)
    engine.wait_for(f"router {DIRECTORY}")
    engine.host.tell(Do(what="fail"), "ledger")
    engine.wait_for("router directory risk,router")
    engine.wait_for(f"router {DIRECTORY}", times=2)
    engine.wait_for(f"ledger {DIRECTORY}", times=2)
    engine.host.tell(Do(what="are you there"), "router")
    engine.wait_for("ledger heard are you there")


def test_nothing_is_lost_that_is_said_to_a_service_while_it_is_rebuilt(base, make_engine) -> None:
    engine = make_engine(base, SERVICES)
    engine.wait_for(f"router {DIRECTORY}")
    router = engine.host.address_of("router")
    engine.host.tell(Do(what="fail"), "ledger")
    engine.wait_for("router directory risk,router")
    engine.host.tell(Do(what="meanwhile"), router)
    engine.wait_for("ledger heard meanwhile")


def test_the_engine_ends_with_a_sentence_when_a_vital_service_crashes_too_often(base, make_engine) -> None:
    engine = make_engine(base, SERVICES)
    for time in range(1, 5):
        engine.wait_for(f"router {DIRECTORY}", times=time)
        engine.host.tell(Do(what="fail"), "router")
    engine.until(lambda: engine.host.ended is not None, "the end of the engine")
    assert engine.host.ended.code == EXIT_SOFTWARE
    assert engine.host.ended.reason.startswith("service router was restarted 3 times within 60 s")
    assert engine.host.run() == EXIT_SOFTWARE


def test_the_engine_goes_on_without_a_service_that_is_not_vital(base, make_engine) -> None:
    engine = make_engine(base, SERVICES)
    for time in range(1, 5):
        engine.wait_for(f"risk {DIRECTORY}", times=time)
        engine.host.tell(Do(what="fail"), "risk")
    engine.wait_for("router directory ledger,router", times=4)
    assert isinstance(engine.ask(WhoAreYou(), "router"), Message)
    engine.host.tell(supervision.RestartActor(name="risk"))
    engine.wait_for(f"risk {DIRECTORY}", times=5)


def test_a_service_that_is_not_vital_and_cannot_start_does_not_hold_up_the_others(base, make_engine) -> None:
    spitting = ServiceSpec(name="risk", actor="tests.contract.toys.Spitting", vital=False)
    engine = make_engine(base, (SERVICES[0], spitting, SERVICES[2]))
    engine.wait_for("router directory ledger,router")


def test_services_stop_in_the_reverse_order_of_their_start(base, make_engine) -> None:
    engine = make_engine(base, SERVICES)
    engine.host.stop()
    assert [line for line in engine.lines() if line.endswith("on_stop")] == [
        "router on_stop",
        "risk on_stop",
        "ledger on_stop",
    ]
    assert engine.host.ended.code == 0


def test_an_unknown_base_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"system\.base is 'carrierPigeonBase'"):
        Host(ToySettings(state_dir=str(tmp_path)), base="carrierPigeonBase")


EXAMPLES = {
    "str": "x", "int": 1, "Any": None, "bool": True, "dict[str, Any]": {}, "tuple[ServiceSpec, ...]": (),
    "int | None": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [kind for kind in vars(supervision).values() if isinstance(kind, type) and kind.__module__ == supervision.__name__],
    ids=lambda kind: kind.__name__,
)
def test_every_message_of_supervision_is_frozen_and_survives_the_way_to_another_process(kind) -> None:
    assert issubclass(kind, (Message, Record))
    message = kind(**{field.name: EXAMPLES[kind.__annotations__[field.name]] for field in msgspec.structs.fields(kind)})
    assert pickle.loads(pickle.dumps(message)) == message
    field = msgspec.structs.fields(kind)[0].name
    with pytest.raises(AttributeError):
        setattr(message, field, None)


def test_messages_with_addresses_in_them_arrive(base, make_engine) -> None:
    engine = make_engine(base, SERVICES)
    engine.host.tell(Said(what="by the address that the directory gave"), engine.host.address_of("ledger"))
    engine.wait_for("ledger heard by the address that the directory gave")
