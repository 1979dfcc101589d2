"""What fires, when, and what never does: the trigger book, one rule a test."""

from __future__ import annotations

import pytest

from actors.rules.trigger_book import Arm, Fired, Moved, TrailState, TriggerBook
from messages.market import TriggerMethod as M
from tests.rules.trigger_book_audit import audit


def stop(arm_id: str = "s", side: str = "SELL", level: int = 95, **more) -> Arm:
    return Arm(arm_id, side, "stop", level=level, **more)


def lit(arm_id: str = "t", side: str = "SELL", level: int = 110, **more) -> Arm:
    return Arm(arm_id, side, "lit", level=level, **more)


def trail(arm_id: str = "x", side: str = "SELL", amount: int = 5, **more) -> Arm:
    return Arm(arm_id, side, "trail_amount", offset=amount, **more)


def book_with(*arms: Arm, in_session: bool = True) -> TriggerBook:
    book = TriggerBook(in_session=in_session)
    for arm in arms:
        assert book.arm(arm) == []
    return book


def ids(fired: list[Fired]) -> list[str]:
    return [event.arm_id for event in fired]


def trade_ids(book: TriggerBook, *prices: int) -> list[list[str]]:
    return [ids(book.on_trade(price, 1)) for price in prices]


# -- levels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "prices", "fires_on"),
    [
        (stop(side="SELL", level=95), (97, 96, 95), 95),
        (stop(side="SELL", level=95), (97, 90), 90),  # a gap through it
        (stop(side="BUY", level=105), (103, 104, 105), 105),
        (stop(side="BUY", level=105), (103, 120), 120),
        (lit(side="SELL", level=110), (108, 109, 110), 110),
        (lit(side="BUY", level=90), (92, 91, 90), 90),
    ],
)
def test_a_level_fires_on_an_exact_touch_or_beyond_and_not_before(arm, prices, fires_on):
    book = book_with(arm)
    *before, last = prices
    for price in before:
        assert book.on_trade(price, 1) == []
    assert book.on_trade(last, 7) == [Fired(arm.arm_id, fires_on, arm.level, None, 0, 7, False)]
    assert len(book) == 0
    assert book.on_trade(last, 8) == [], "an arm fires once"


def test_levels_are_no_edges_what_is_already_through_fires_on_its_first_price():
    book = book_with(stop(level=95))
    assert ids(book.on_trade(80, 1)) == ["s"]


def test_arming_fires_nothing_by_itself_unless_known_evidence_may_be_used():
    book = TriggerBook()
    book.on_trade(90, 10)
    assert book.arm(stop("later", level=95, fresh_after_ns=5)) == []
    assert book.arm(stop("stale", level=95, fresh_after_ns=11), use_evidence=True) == []
    assert book.arm(stop("now", level=95, fresh_after_ns=5), use_evidence=True) == [
        Fired("now", 90, 95, None, 0, 10, False)
    ]
    assert ids(book.on_trade(90, 11)) == ["later", "stale"]


def test_gap_through_target_and_stop_fires_both_in_the_order_of_arming():
    book = book_with(lit("buy-low", "BUY", 98), stop("second", level=95), trail("third", initial_stop=96), stop("4"))
    assert ids(book.on_trade(94, 1)) == ["buy-low", "second", "third", "4"]


def test_an_arm_armed_again_replaces_the_old_one_and_goes_to_the_back_of_the_order():
    book = book_with(stop("a", level=95), stop("b", level=95), stop("a", level=94))
    assert len(book) == 2
    assert ids(book.on_trade(95, 1)) == ["b"]
    assert ids(book.on_trade(94, 1)) == ["a"]


def test_a_disarmed_arm_never_fires_and_says_whether_it_was_there():
    book = book_with(stop("a"), trail("b"), trail("c", activation=120), lit("d"))
    book.on_trade(100, 1)
    for arm_id in "abcd":
        assert arm_id in book
        assert book.disarm(arm_id)
        assert not book.disarm(arm_id)
        audit(book)
    assert trade_ids(book, 1, 1_000) == [[], []]


# -- trails ----------------------------------------------------------------------------------------------------------


def test_a_trail_follows_the_high_and_fires_on_the_old_stop():
    book = book_with(trail(amount=5))
    assert book.state_of("x") == TrailState(None, None, 0, False)
    assert trade_ids(book, 100, 98, 103, 101, 103, 104) == [[]] * 6
    assert book.state_of("x") == TrailState(104, 99, 2, True)
    assert trade_ids(book, 100) == [[]]
    assert book.on_trade(99, 9) == [Fired("x", 99, 99, 104, 2, 9, False)]


def test_a_buy_trail_is_the_mirror():
    book = book_with(trail(side="BUY", amount=5))
    assert trade_ids(book, 100, 102, 97, 96, 100) == [[]] * 5
    assert book.state_of("x") == TrailState(96, 101, 2, True)
    assert book.on_trade(101, 9) == [Fired("x", 101, 101, 96, 2, 9, False)]


def test_a_percent_trail_compares_with_the_exact_stop_not_with_a_rounded_one():
    book = book_with(Arm("p", "SELL", "trail_percent", offset=10_000_000))  # 10 percent
    book.on_trade(33_333_333, 1)
    assert book.state_of("p").stop == 29_999_999
    assert book.on_trade(30_000_000, 1) == []
    assert ids(book.on_trade(29_999_999, 1)) == ["p"]


def test_a_trail_sleeps_until_its_activation_price():
    book = book_with(trail(amount=5, activation=110, initial_stop=100), trail("y", "BUY", 5, activation=90))
    assert trade_ids(book, 105, 95, 109) == [[], [], []], "not even its initial stop is there yet"
    assert not book.state_of("x").active
    assert book.on_trade(110, 1) == []
    assert book.state_of("x") == TrailState(110, 105, 0, True)
    assert ids(book.on_trade(90, 1)) == ["x"]
    assert book.state_of("y") == TrailState(90, 95, 0, True)


def test_a_recovered_trail_goes_on_from_its_high_water_and_its_stop():
    book = book_with(trail(amount=5, high_water=120, initial_stop=117))
    assert book.state_of("x") == TrailState(120, 117, 0, False)
    assert book.on_trade(118, 1) == []
    assert book.state_of("x") == TrailState(120, 117, 0, True), "never looser than before the restart"
    book.on_trade(121, 1)
    assert book.state_of("x") == TrailState(121, 117, 1, True), "the trailing level is still below the initial stop"
    book.on_trade(123, 1)
    assert book.on_trade(118, 1) == [Fired("x", 118, 118, 123, 2, 1, False)]


def test_a_recovered_trail_that_is_through_fires_on_the_first_fresh_price():
    book = book_with(trail(amount=5, high_water=120, fresh_after_ns=50))
    assert book.on_trade(100, 49) == []
    assert book.on_trade(114, 50) == [Fired("x", 114, 115, 120, 0, 50, False)]


def test_trails_that_share_a_high_keep_their_own_counts():
    book = book_with(trail("early", amount=50))
    trade_ids(book, 100, 101, 102, 90)
    book.arm(trail("late", amount=50))
    trade_ids(book, 90, 95)
    book.arm(trail("latest", amount=50))
    trade_ids(book, 92, 102, 103)
    assert [book.state_of(arm_id) for arm_id in ("early", "late", "latest")] == [
        TrailState(103, 53, 3, True),
        TrailState(103, 53, 3, True),
        TrailState(103, 53, 2, True),
    ]
    audit(book)


# -- methods ---------------------------------------------------------------------------------------------------------


def test_double_last_needs_two_consecutive_trades():
    book = book_with(stop(level=95, method=M.DOUBLE_LAST))
    assert trade_ids(book, 94, 96, 95, 96, 95, 94) == [[], [], [], [], [], ["s"]]


def test_double_last_counts_no_trade_from_before_the_arming_nor_a_filtered_one():
    book = TriggerBook()
    book.on_trade(90, 1)
    book.arm(stop(level=95, method=M.DOUBLE_LAST), use_evidence=False)
    assert book.on_trade(90, 1) == []
    book.arm(stop("n", level=95, method=M.DOUBLE_LAST))
    assert ids(book.on_trade(90, 1)) == ["s"]
    assert book.on_trade(80, 1, eligible=False) == []
    assert ids(book.on_trade(90, 1)) == ["n"]


def test_double_last_ratchets_on_each_trade():
    book = book_with(trail(amount=5, method=M.DOUBLE_LAST))
    assert trade_ids(book, 100, 110, 105, 106, 105) == [[]] * 5
    assert trade_ids(book, 104) == [["x"]]


def test_a_halt_or_the_opening_parts_the_two_halves_of_a_double():
    book = book_with(stop(level=95, method=M.DOUBLE_LAST))
    trade_ids(book, 100, 95)
    book.set_halted(True)
    book.set_halted(False)
    assert trade_ids(book, 95) == [[]]
    book.set_session(False)
    book.set_session(True)
    assert trade_ids(book, 95, 95) == [[], ["s"]]


def test_bid_ask_looks_at_the_bid_for_a_sell_and_at_the_ask_for_a_buy():
    book = book_with(stop("sell", "SELL", 95, method=M.BID_ASK), stop("buy", "BUY", 105, method=M.BID_ASK))
    assert book.on_trade(1, 1) == []
    assert book.on_quote(96, 104, 1) == []
    assert ids(book.on_quote(95, 104, 1)) == ["sell"]
    assert ids(book.on_quote(96, 105, 1)) == ["buy"]


def test_double_bid_ask_needs_two_quotes_that_differ():
    book = book_with(stop(level=95, method=M.DOUBLE_BID_ASK))
    assert book.on_quote(96, 97, 1) == []
    for _ in range(3):
        assert book.on_quote(95, 97, 1) == [], "a repeated quote is not a second one"
    assert ids(book.on_quote(95, 98, 1)) == ["s"]


def test_midpoint_is_compared_exactly():
    book = book_with(stop("sell", "SELL", 95, method=M.MIDPOINT), stop("buy", "BUY", 105, method=M.MIDPOINT))
    assert book.on_quote(95, 96, 1) == [], "95.5 is above 95"
    assert book.on_quote(104, 105, 1) == [], "104.5 is below 105"
    assert ids(book.on_quote(94, 96, 1)) == ["sell"]
    assert ids(book.on_quote(100, 110, 1)) == ["buy"]


def test_last_or_bid_ask_takes_whichever_comes_first():
    for evidence in (lambda book: book.on_trade(95, 2), lambda book: book.on_quote(95, 99, 2)):
        book = book_with(stop(level=95, method=M.LAST_OR_BID_ASK))
        assert book.on_trade(100, 1) == book.on_quote(99, 101, 1) == []
        assert ids(evidence(book)) == ["s"]


# -- what is not evidence --------------------------------------------------------------------------------------------


def everything() -> TriggerBook:
    """One arm of each kind, side and method, all begun; any of them would fire or ratchet on the prices below."""
    book = TriggerBook()
    for method in (method for method in M if method is not M.DEFAULT):
        for side in ("SELL", "BUY"):
            for arm in (stop, lit, trail):
                level = 90 if (side == "SELL") == (arm is stop) else 110
                more = {} if arm is trail else {"level": level}
                book.arm(arm(f"{method}-{side}-{arm.__name__}", side, method=method, **more))
    for _ in range(2):
        assert book.on_trade(100, 10) == []
        assert book.on_quote(100, 100, 10) == []
    return book


def states(book: TriggerBook) -> list[TrailState | None]:
    return [book.state_of(arm_id) for arm_id in book._arms]


@pytest.mark.parametrize("price", [0, -1, -100])
def test_no_price_no_evidence(price):
    book = everything()
    before = states(book)
    for _ in range(2):
        assert book.on_trade(price, 11) == []
        assert book.on_conflated(price, 100, price, price, 11) == []
        assert book.on_quote(price, 100, 11) == []
        assert book.on_quote(100, price, 11) == []
        assert book.on_quote(price, price, 11) == []
    assert states(book) == before


def test_crossed_quotes_excluded_trades_and_contradictory_batches_are_no_evidence():
    book = everything()
    before = states(book)
    for price in (1, 1, 1_000, 1_000):
        assert book.on_trade(price, 11, eligible=False) == []
        assert book.on_quote(price + 1, price, 11) == []
        assert book.on_conflated(price, price, price + 1, price, 11) == []
        assert book.on_conflated(100, 100, 100, price + 1_001, 11) == []
    assert states(book) == before


def test_a_halt_stops_everything_but_disarming():
    book = everything()
    before = states(book)
    book.set_halted(True)
    for price in (1, 1, 1_000, 1_000):
        assert book.on_trade(price, 11) == []
        assert book.on_quote(price, price, 11) == []
        assert book.on_conflated(price, price, price, price, 11) == []
    assert states(book) == before
    assert book.arm(stop("new", level=2_000), use_evidence=True) == [], "halted: known prices are no evidence either"
    assert book.disarm("new")
    book.set_halted(False)
    assert "last-SELL-stop" in ids(book.on_trade(1, 11))


def test_out_of_session_rth_only_arms_neither_fire_nor_ratchet_and_extended_ones_do():
    book = book_with(trail("rth"), trail("ext", rth_only=False), in_session=False)
    trade_ids(book, 100, 120)
    assert not book.state_of("rth").active
    assert book.state_of("ext") == TrailState(120, 115, 1, True)
    assert trade_ids(book, 110) == [["ext"]]
    book.set_session(True)
    assert trade_ids(book, 100, 95) == [[], ["rth"]]


def test_stale_evidence_is_ignored_for_the_arm_and_after_it_began_for_all():
    book = book_with(stop("old", level=95))
    book.on_trade(100, 10)
    book.arm(stop("new", level=95, fresh_after_ns=20))
    assert ids(book.on_trade(95, 19)) == ["old"]
    book.arm(stop("old", level=95))
    assert book.on_trade(100, 20) == []
    assert book.on_trade(95, 19) == [], "a print from before what the feed has already proved to be past"
    assert ids(book.on_trade(95, 20)) == ["new", "old"]


def test_stale_evidence_does_not_part_the_two_halves_of_a_double_either():
    book = book_with(
        stop("trades", level=95, method=M.DOUBLE_LAST, fresh_after_ns=20),
        stop("quotes", level=95, method=M.DOUBLE_BID_ASK, fresh_after_ns=20),
    )
    for at, price in ((20, 100), (20, 95), (19, 100)):
        assert book.on_trade(price, at) == book.on_quote(price, price + 1, at) == []
    assert ids(book.on_trade(94, 20)) == ["trades"]
    assert ids(book.on_quote(94, 95, 20)) == ["quotes"]


def test_a_bad_quote_between_two_halves_of_a_double_is_as_if_it_had_not_been():
    book = book_with(stop(level=95, method=M.DOUBLE_BID_ASK))
    for bid, ask in ((100, 101), (95, 97), (100, 99), (100, 0), (100, -1)):
        assert book.on_quote(bid, ask, 1) == []
    assert ids(book.on_quote(94, 97, 1)) == ["s"]


@pytest.mark.parametrize("method", [M.LAST, M.BID_ASK])
def test_an_arm_that_began_on_known_evidence_hears_nothing_older_than_it_asked_for(method):
    book = TriggerBook()
    book.on_trade(100, 30)
    book.on_quote(100, 101, 30)
    assert book.arm(stop(level=95, method=method, fresh_after_ns=25), use_evidence=True) == []
    assert book.on_trade(90, 24) == book.on_quote(90, 91, 24) == []
    assert ids(book.on_trade(90, 25) + book.on_quote(90, 91, 25)) == ["s"]


def test_a_group_that_waits_above_fires_its_next_stop_after_its_first_is_gone():
    book = book_with(trail("tight", amount=5), trail("wide", amount=20))
    trade_ids(book, 100, 97)
    book.arm(trail("other", amount=50))
    assert trade_ids(book, 96, 95, 90, 80, 46) == [[], ["tight"], [], ["wide"], ["other"]]


# -- conflated trades ------------------------------------------------------------------------------------------------


def test_a_batch_is_judged_low_first_then_ratchet_then_last():
    def begun() -> TriggerBook:
        book = book_with(trail(amount=5))
        book.on_trade(100, 1)
        return book

    assert begun().on_conflated(100, 120, 95, 119, 2) == [Fired("x", 95, 95, 100, 0, 2, False)], "the old stop"
    assert begun().on_conflated(100, 120, 99, 115, 2) == [Fired("x", 115, 115, 120, 1, 2, False)], "the new stop"
    book = begun()
    assert book.on_conflated(100, 120, 99, 116, 2) == [], "was the low before the high? nobody knows"
    assert book.state_of("x") == TrailState(120, 115, 1, True)
    assert begun().on_conflated(100, 120, 99, 116, 2, fire_ambiguous=True) == [Fired("x", 99, 115, 120, 1, 2, True)]


def test_a_batch_fires_a_double_for_certain_only_with_two_known_neighbours():
    def begun(*prices: int) -> TriggerBook:
        book = book_with(stop(level=95, method=M.DOUBLE_LAST))
        trade_ids(book, *prices)
        return book

    assert begun(100).on_conflated(95, 95, 90, 94, 2) == [Fired("s", 94, 95, None, 0, 2, False)], "all of them"
    assert begun(100, 95).on_conflated(94, 99, 90, 99, 2) == [Fired("s", 94, 95, None, 0, 2, False)], "before and first"
    assert begun(100).on_conflated(96, 99, 90, 94, 2) == [Fired("s", 94, 95, None, 0, 2, True)], "the last alone"
    assert begun(100).on_conflated(96, 99, 90, 96, 2) == []


# -- the journal -----------------------------------------------------------------------------------------------------


def test_moved_since_returns_each_trail_that_moved_once_as_it_stands_and_in_bounded_steps():
    book = book_with(*(trail(f"arm-{number}", amount=10 + number) for number in range(100)), stop(level=1))
    book.on_trade(1_000, 1)
    first = [book.moved_since(30) for _ in range(4)]
    assert [len(part) for part in first] == [30, 30, 30, 10]
    assert first[0][0] == Moved("arm-0", 1_000, 990, 0)
    assert not book.has_moved
    assert book.moved_since() == []
    for price in (1_001, 1_002, 1_003):
        book.on_trade(price, 1)
    half = book.moved_since(50)
    book.on_trade(1_004, 1)
    rest = []
    while book.has_moved:
        rest += book.moved_since(7)
    assert {moved.high_water for moved in half} == {1_003}
    assert {moved.arm_id for moved in rest} == {f"arm-{number}" for number in range(100)}
    assert {moved.high_water for moved in rest} == {1_004}
    assert len(rest) == 100


def test_what_waits_to_be_reported_is_bounded_though_nobody_asks():
    book = book_with(trail("keeper", amount=90))
    for number in range(1_000):
        book.arm(trail(f"arm-{number}", amount=50))
        book.on_trade(100 + number % 7, 1)
        book.disarm(f"arm-{number}")
    assert len(book._started) + len(book._moved) < 300
    assert {moved.arm_id for moved in book.moved_since(1_000)} == {"keeper"}


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        (stop(side="SELL_SHORT"), "arm s: side 'SELL_SHORT': must be BUY or SELL"),
        (Arm("s", "SELL", "stop"), "arm s: a stop takes a level"),
        (Arm("s", "SELL", "stp", level=1), "arm s: kind 'stp': must be stop, lit, trail_amount or trail_percent"),
        (stop(level=0), "arm s: level 0: must be a positive integer"),
        (stop(level=95.0), "arm s: level 95.0: must be a positive integer"),
        (stop(level=True), "arm s: level True: must be a positive integer"),
        (stop(method=M.DEFAULT), "arm s: method .*must be resolved to one of last, double_last"),
        (stop(activation=99), "arm s: activation 99: a stop takes none"),
        (Arm("s", "SELL", "trail_amount"), "arm s: a trail_amount takes an offset and no level"),
        (Arm("s", "SELL", "trail_amount", level=1, offset=1), "arm s: a trail_amount takes an offset and no level"),
        (Arm("s", "SELL", "trail_percent", offset=100_000_000), "arm s: offset 100000000: must be below 100 percent"),
    ],
)
def test_an_arm_that_makes_no_sense_is_refused_by_name_and_changes_nothing(arm, says):
    book = book_with(stop(level=95))
    with pytest.raises(ValueError, match=says):
        book.arm(arm)
    assert book.state_of("s") == TrailState(None, 95, 0, False)
    assert ids(book.on_trade(95, 1)) == ["s"]
