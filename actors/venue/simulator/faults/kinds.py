"""Every fault that the gateway can show, by the names of ib-wire.md 14, and the aim that they share.

Law: plain values that are checked when they are built; what a fault does is written elsewhere. The base class says
where a fault acts: on what arrives, on what is told of orders, on a message, on the bytes, or at a moment.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Glob = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Times = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
Copies = Annotated[int, msgspec.Meta(ge=2, le=9)]
Code = Annotated[int, msgspec.Meta(ge=1, le=20_000)]
Shares = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Dollars = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Side = Literal["BUY", "SELL"]
End = Literal[52, 53, 54, 55, 57, 62, 64, 72, 74, 76, 102]
ENDS = {
    "contractDetailsEnd": 52, "openOrderEnd": 53, "accountDownloadEnd": 54, "execDetailsEnd": 55,
    "tickSnapshotEnd": 57, "positionEnd": 62, "accountSummaryEnd": 64, "positionMultiEnd": 72,
    "accountUpdateMultiEnd": 74, "secDefOptParamsEnd": 76, "completedOrdersEnd": 102}
Reached = Literal["reached", "lost"]
Hang = Literal["close", "reset"]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name"):
    """Where a fault is aimed. Every field that is given must fit; what is not given fits everything.

    An occasion is one place where the fault could act: a request that came, a message about to be sent, an execution.
    """

    ONCE: ClassVar[bool] = False
    MESSAGE: ClassVar[str | None] = None        # what it is aimed at when the aim does not say
    ON: ClassVar[tuple[str, ...]] = ()          # what it can act on at all; empty: any message

    client: int | None = None
    """The client id that it happens to."""
    ref: Glob | None = None
    """A glob over the orderRef: only occasions that concern such an order."""
    symbol: Glob | None = None
    """A glob over the symbol: only occasions that concern such a contract."""
    message: Glob | None = None
    """A glob over the name of the message, as the journal spells it: placeOrder, modifyOrder, orderStatus, ..."""
    after: Count = 1
    """Act from the Nth fitting occasion on: `after=3, message=placeOrder` is after the third placeOrder."""
    times: Times | None = None
    """How often it acts; 0 is for ever. Left out: for ever, or once where that is the nature of the fault."""
    at: Seconds = 0.0
    """Seconds after it was set (or the gateway began) before which nothing happens."""
    lasts: Seconds | None = None
    """Seconds after `at` in which it acts; left out: for ever."""
    clock: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$")] | None = None
    """New York time of the exchange's day, hh:mm[:ss], before which nothing happens; an event happens then, daily."""
    chance: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """Probability of each occasion, drawn from the gateway's fault seed."""

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def limit(self) -> int:
        """Return how often it acts; 0 is for ever."""
        return (1 if self.ONCE else 0) if self.times is None else self.times


# what arrives -----------------------------------------------------------------------------------------------------

class ArrivalFault(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Acts when a request arrives."""


class DropBeforeAck(ArrivalFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="drop_before_ack"):
    """The connection breaks before the order is acknowledged; the order reached the exchange or was lost."""

    ONCE: ClassVar[bool] = True
    MESSAGE: ClassVar[str | None] = "placeOrder"
    order: Reached = "reached"
    how: Hang = "close"


class DropOnCancel(ArrivalFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="drop_on_cancel"):
    """The connection breaks when a cancel is sent; the cancel reached the exchange or was lost."""

    ONCE: ClassVar[bool] = True
    MESSAGE: ClassVar[str | None] = "cancelOrder"
    cancel: Reached = "reached"
    how: Hang = "close"


class PacingError(ArrivalFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pacing_error_100"):
    """The request is dropped with error 100, and counts as one of the three breaches that disconnect."""

    ONCE: ClassVar[bool] = True


class NextIdRollback(ArrivalFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="nextid_rollback"):
    """The next valid id goes back by `n`: ids that were used are handed out again."""

    ON: ClassVar[tuple[str, ...]] = ("startApi", "reqIds")
    ONCE: ClassVar[bool] = True
    MESSAGE: ClassVar[str | None] = "startApi"
    n: Count = 1


class CancelRace(ArrivalFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cancel_race"):
    """A cancel meets a fill: the fill wins (PendingCancel, 11, Filled, 59, 161), or part of it fills first."""

    ON: ClassVar[tuple[str, ...]] = ("cancelOrder",)
    winner: Literal["fill", "partial"] = "fill"
    quantity: Shares | None = None
    """Shares of a partial fill; left out: half of what remains."""


class BigPermId(ArrivalFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="permid_over_2^31"):
    """The order gets a permId above 2^31."""

    ON: ClassVar[tuple[str, ...]] = ("placeOrder",)


class RejectStyle(ArrivalFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="reject_style"):
    """New orders are rejected, and told so in one of the ways that IB has."""

    ON: ClassVar[tuple[str, ...]] = ("placeOrder",)
    style: Literal["201_only", "inactive_only", "201_first", "inactive_first"] = "201_only"
    code: Code = 201
    reason: str = "Order rejected - reason:refused by the venue"


# what is told of orders -------------------------------------------------------------------------------------------

class ReportFault(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Acts on what the exchange says of orders, before it is told; the journal's `sim` lines stay the truth."""


class StatusFirst(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="status_before_openorder"):
    """orderStatus comes before the openOrder that it belongs to."""

    ON: ClassVar[tuple[str, ...]] = ("orderStatus",)


class FillBeforeAck(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fill_before_ack"):
    """The first execution of an order is told before the order is acknowledged."""

    ON: ClassVar[tuple[str, ...]] = ("openOrder",)
    hold: Seconds = 1.0
    """Seconds after which the acknowledgement goes out all the same."""


class LateExecution(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="late_execution"):
    """The status tells the fill before the execution does, which comes `dt` seconds later."""

    ON: ClassVar[tuple[str, ...]] = ("execDetails",)
    dt: Seconds = 0.0


class NoFilledStatus(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="no_filled_status"):
    """A complete fill is told by its execution only: no openOrder and no orderStatus says Filled."""

    ON: ClassVar[tuple[str, ...]] = ("orderStatus",)


class LateCommission(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="late_commission"):
    """The commission report comes late, or never."""

    ON: ClassVar[tuple[str, ...]] = ("commissionReport",)
    dt: Seconds | Literal["never"] = 5.0


class ExecCorrection(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="exec_correction"):
    """An execution is corrected later: the same id with another last part, and another price."""

    ON: ClassVar[tuple[str, ...]] = ("execDetails",)
    dt: Seconds = 1.0
    ticks: Annotated[int, msgspec.Meta(ge=-10_000, le=10_000)] = 1
    """By how many minimum ticks the price is corrected."""


class DupExec(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="dup_exec_same_id"):
    """An execution is told `n` times with the same id."""

    ON: ClassVar[tuple[str, ...]] = ("execDetails",)
    n: Copies = 2
    dt: Seconds = 0.0


class ErrorThenLive(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="error_then_live"):
    """An error comes with the id of an order that was accepted and goes on working."""

    ON: ClassVar[tuple[str, ...]] = ("orderStatus",)
    code: Code = 201
    text: str = "Order rejected - reason:it is at work all the same"


class PositionLag(ReportFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="position_lag"):
    """Positions and portfolio values follow a fill late."""

    ON: ClassVar[tuple[str, ...]] = ("position",)
    dt: Seconds = 1.0


# messages and bytes -----------------------------------------------------------------------------------------------

class MessageFault(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Acts on one message about to be sent. Market data is not among them (see price_neg1)."""


class DupStatus(MessageFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="dup_status"):
    """Each orderStatus is sent `n` times."""

    ON: ClassVar[tuple[str, ...]] = ("orderStatus",)
    n: Copies = 2


class CloseMidFrame(MessageFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="close_mid_frame"):
    """The connection breaks in the middle of a message."""

    ONCE: ClassVar[bool] = True


class MissingEnd(MessageFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="missing_end"):
    """The message that ends a list never comes; `end` is its number, left out: any of them."""

    ON: ClassVar[tuple[str, ...]] = tuple(ENDS)
    end: End | None = None


class SlowEnd(MessageFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="slow_end"):
    """The message that ends a list comes `dt` seconds late."""

    ON: ClassVar[tuple[str, ...]] = tuple(ENDS)
    end: End | None = None
    dt: Seconds = 2.0


class UnknownMessage(MessageFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="unknown_message_id"):
    """A message of a number that no client knows goes before the fitting one."""

    id: Annotated[int, msgspec.Meta(ge=108, le=199)] = 199


class TrailingField(MessageFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trailing_extra_field"):
    """The message has fields at its end that its layout does not know."""

    n: Annotated[int, msgspec.Meta(ge=1, le=20)] = 1


class PriceNegative(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="price_neg1"):
    """Prices are sent as -1 (or 0) with size 0 where there is a quote."""

    ON: ClassVar[tuple[str, ...]] = ("tickPrice", "tickByTick")
    ONCE: ClassVar[bool] = True
    price: Literal[-1, 0] = -1


class StreamFault(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Acts on the bytes as they are written; nothing is lost or changed."""


class SplitFrames(StreamFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="split_frames"):
    """What is written goes out in pieces of `size` bytes, each in a segment of its own."""

    size: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 1


class CoalesceFrames(StreamFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="coalesce_frames"):
    """What is written within `dt` seconds goes out in one piece."""

    dt: Seconds = 0.05


class ClientIdLinger(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="clientid_linger"):
    """The client id stays taken for `dt` seconds after its connection has gone: 326 until then."""

    ON: ClassVar[tuple[str, ...]] = ("disconnect",)
    dt: Seconds = 5.0


# events -----------------------------------------------------------------------------------------------------------

class EventFault(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Happens at a moment: at `at` or `clock`, or `wait` seconds after a fitting message, if `message` is given."""

    ONCE: ClassVar[bool] = True
    wait: Seconds = 0.0


class HalfOpen(EventFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="half_open"):
    """The socket stays open and nothing passes any more, one way or both; after `dt` seconds it breaks."""

    deaf: Literal["both", "gateway", "client"] = "both"
    """Who hears nothing any more."""
    dt: Seconds | None = None


class FarmFlap(EventFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="farm_flap"):
    """A data farm is down for `dt` seconds (2103, 2105, 2157; then 2104, 2106, 2158); no prices while `data` is."""

    farm: Literal["all", "data", "hmds", "secdef"] = "all"
    dt: Seconds = 1.0


class LinkLost(EventFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="link"):
    """The gateway loses IB for `dt` seconds: silence, then 1101 or 1102, and nothing is told that was missed."""

    lost: Literal[1100, 2110] = 1100
    restored: Literal[1101, 1102] = 1102
    dt: Seconds = 2.0
    fills: Glob | None = None
    """Live orders whose orderRef fits are filled while nobody hears."""
    orders: Literal["kept", "lost"] | None = None
    """What becomes of orders and cancels meanwhile; left out: the gateway's setting `resubmit_orders`."""


class Restart(EventFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="restart"):
    """The gateway restarts: all sockets close, the port is refused for `dt` seconds, untransmitted orders are gone."""

    dt: Seconds = 1.0
    persist: Literal["all", "gtc"] = "all"
    """`gtc`: DAY orders do not outlive it either, as over a night."""
    rollback: Times | None = None
    """How far the next valid ids go back; left out: the gateway's setting `nextid_rollback`."""
    warn: bool = False
    """Say 1300 first."""


class ManualOrder(EventFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="manual_order"):
    """A person enters an order in TWS: client id 0, no order id of the API."""

    contract: str = "AAPL"
    action: Side = "BUY"
    quantity: Shares = 100
    limit: Dollars | None = None
    """Left out: a market order."""


class OtherClientFill(EventFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="other_client_fill"):
    """An order of another client fills, and its execution is told to the clients that fit."""

    contract: str = "AAPL"
    action: Side = "BUY"
    quantity: Shares = 100
    price: Dollars | None = None
    other: Annotated[int, msgspec.Meta(ge=0, le=2_000_000)] = 999
    """The other's client id."""


class UnsolicitedCancel(EventFault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="unsolicited_cancel"):
    """The venue cancels live orders unasked: the message's order, or all that fit."""

    reason: str = "cancelled by the venue"


AnyFault = (
    DropBeforeAck | DropOnCancel | PacingError | NextIdRollback | CancelRace | BigPermId | RejectStyle | StatusFirst
    | FillBeforeAck | LateExecution | NoFilledStatus | LateCommission | ExecCorrection | DupExec | ErrorThenLive
    | PositionLag | DupStatus | CloseMidFrame | MissingEnd | SlowEnd | UnknownMessage | TrailingField | PriceNegative
    | SplitFrames | CoalesceFrames | ClientIdLinger | HalfOpen | FarmFlap | LinkLost | Restart | ManualOrder
    | OtherClientFill | UnsolicitedCancel)
KINDS: dict[str, type[Fault]] = {str(kind.__struct_config__.tag): kind for kind in AnyFault.__args__}
AIM = tuple(field for field in Fault.__struct_fields__)


def aim_of(fault: Fault) -> dict[str, object]:
    """Return the fields of its aim that differ from the default, by name."""
    plain = Fault.__struct_defaults__
    return {name: getattr(fault, name) for name, default in zip(AIM, plain, strict=True)
            if getattr(fault, name) != default}


def plain(fault: Fault) -> dict[str, object]:
    """Return the fault as plain values that build it again; what is as by default is left out."""
    found: dict[str, object] = {"name": fault.kind}
    for field in msgspec.structs.fields(type(fault)):
        value = getattr(fault, field.name)
        if value != field.default:
            found[field.name] = value
    return found
