"""The book model: the same seed gives the same bytes, and the book is one: uncrossed, sized, printing at its touch."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
from decimal import Decimal as D
from fractions import Fraction

import pytest

from actors.venue.simulator.feeds import Trade, Watcher
from actors.venue.simulator.profile import Profile
from actors.venue.simulator.scenario import ScenarioError
from actors.venue.simulator.wire import encode
from tests.venue.gateway_fixture import NS, ROOT, START_NS, RawClient, memory_gateway
from tests.venue.test_sim_session import AAPL, place

pytestmark = pytest.mark.unit
APPLE = 265598


def turns(gateway, seconds: float, now: int = START_NS) -> int:
    """Advance turn by turn for so many of the caller's seconds; return the time."""
    end = now + int(seconds * NS)
    while (due := gateway.advance(now)) is not None and due <= end:
        now = max(now, due)
    gateway.advance(end)
    return end


class Recorder(Watcher):
    """Sees what the market shows, event by event."""

    def __init__(self, con_id: int = APPLE) -> None:
        self.con_id = con_id
        self.quotes: list[tuple] = []
        self.prints: list[tuple[Trade, tuple]] = []
        self.touch: tuple = (None, None)

    def quote(self, q):
        self.touch = (q.bid, q.ask)
        self.quotes.append((q.time_ns, q.bid, q.ask, q.bid_size, q.ask_size))
        return b""

    def trade(self, t, q):
        self.prints.append((t, (q.bid, q.ask)))
        return b""


def recorded(seconds: float = 600, con_id: int = APPLE, **settings):
    gateway = memory_gateway(market="model", **settings)
    recorder = Recorder(con_id)
    gateway.watch(RawClient(gateway, 9).session, recorder, START_NS)
    turns(gateway, seconds)
    return gateway, recorder


def story(seed: int = 1, speed: str = "60", step_s: float | None = None) -> bytes:
    """Play two minutes of New York with orders, streams and books; return every byte that the client got."""
    gateway = memory_gateway(market="model", seed=seed, start="2013-10-07T09:29", speed=speed, always_open=False,
                             exec_prefix="same")
    client = RawClient(gateway)
    out = b""
    for fields in ([1, 11, 5, *AAPL, 0, "233,293", 0, 0, ""], [97, 6, *AAPL, "BidAsk", 0, 0],
                   [97, 7, *AAPL, "AllLast", 5, 0],
                   [10, 5, 8, *AAPL, 5, 1, ""], [50, 3, 9, *AAPL, 5, "TRADES", 0, ""],
                   place(1, lmt="100.02"), place(2, "SELL", lmt="99.98"), place(3, kind="STP", aux="100.03")):
        client.session.receive(encode(*fields), client.now)
        out += client.session.take()
    end = START_NS + int(Fraction(120) / Fraction(speed) * NS)
    now = START_NS
    while now < end:
        due = gateway.advance(now)
        now = min(end, max(now + 1, due or end) if step_s is None else now + int(step_s * NS))
        out += client.session.take()
    while (due := gateway.advance(end)) is not None and due <= end:
        pass
    return out + client.session.take()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    first = story()
    assert len(first) > 20_000
    assert first == story()
    assert first != story(seed=2)


def test_the_same_bytes_come_at_every_pace_and_with_late_turns():
    assert story() == story(step_s=0.137) == story(speed="1", step_s=3) == story(speed="600")


def test_the_same_bytes_come_whatever_the_hash_seed():
    code = "import hashlib; from tests.venue.test_sim_model import story; print(hashlib.sha256(story()).hexdigest())"
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
                          timeout=120, env={**os.environ, "PYTHONHASHSEED": other})
    assert said.stdout.strip() == hashlib.sha256(story()).hexdigest()


def test_the_book_is_two_sided_uncrossed_on_the_grid_and_sized():
    _, seen = recorded()
    assert len(seen.quotes) > 1000
    for _, bid, ask, bid_size, ask_size in seen.quotes:
        assert 0 < bid < ask
        assert bid % D("0.01") == ask % D("0.01") == 0
        assert bid_size > 0
        assert ask_size > 0


def test_every_print_is_at_the_bid_or_at_the_ask_and_no_larger_than_what_was_shown():
    gateway, seen = recorded()
    assert len(seen.prints) > 200
    assert all(t.price in touch for t, touch in seen.prints)
    sides = [t.price == touch[1] for t, touch in seen.prints]
    assert 0.4 < sum(sides) / len(sides) < 0.6
    q = gateway.exchange.quote_of(APPLE)
    assert q.traded == q.volume == sum(t.size for t, _ in seen.prints) + gateway.tape(APPLE).prints[0].size
    assert q.trades == len(seen.prints) + 1


@pytest.mark.parametrize(("rates", "expected"), [({}, (2, 0.5)), ({"quotes": 10.0, "trades": 4.0}, (10, 4))])
def test_the_profile_sets_the_rates(tmp_path, rates, expected):
    path = tmp_path / "story.toml"
    path.write_text('title = "t"\n[[model]]\nsymbol = "AAPL"\n' + "".join(f"{k} = {v}\n" for k, v in rates.items()))
    gateway = memory_gateway(scenario=str(path))
    seen = Recorder()
    gateway.watch(RawClient(gateway, 9).session, seen, START_NS)
    turns(gateway, 600)
    prints, quotes = len(seen.prints) / 600, (len(seen.quotes) - len(seen.prints)) / 600
    assert prints == pytest.approx(expected[1], rel=0.25)
    assert quotes == pytest.approx(expected[0], rel=0.25)


def test_the_profile_sets_spread_size_and_volatility(tmp_path):
    def played(**fields):
        path = tmp_path / "story.toml"
        text = "".join(f"{k} = {v}\n" for k, v in fields.items())
        path.write_text(f'title = "t"\n[[quote]]\nsymbol = "AAPL"\nlast = 100\n[[model]]\nsymbol = "AAPL"\n{text}')
        gateway = memory_gateway(scenario=str(path))
        seen = Recorder()
        gateway.watch(RawClient(gateway, 9).session, seen, START_NS)
        turns(gateway, 1200)
        spread = statistics.mean(float(ask - bid) * 100 for _, bid, ask, _, _ in seen.quotes)
        size = statistics.mean(float(q[3]) for q in seen.quotes)
        middles = [float(q[1] + q[2]) / 2 for q in seen.quotes]
        return spread, size, max(middles) - min(middles)

    calm = played(volatility=0.05, spread=1.0, size=200, trades=0.0)
    wild = played(volatility=2.0, spread=8.0, size=2000, trades=0.0)
    assert calm[0] == pytest.approx(1, abs=0.01)
    assert wild[0] == pytest.approx(8, rel=0.15)
    assert calm[1] == pytest.approx(200, rel=0.25)
    assert wild[1] == pytest.approx(2000, rel=0.25)
    assert wild[2] > 5 * calm[2]


def test_one_more_symbol_changes_no_other(tmp_path):
    def prints(symbols):
        path = tmp_path / "story.toml"
        path.write_text('title = "t"\n' + "".join(f'[[model]]\nsymbol = "{s}"\n' for s in symbols))
        gateway = memory_gateway(scenario=str(path))
        turns(gateway, 120)
        return list(gateway.tape(APPLE).prints)

    alone = prints(["AAPL"])
    assert len(alone) > 20
    assert prints(["AAPL", "MSFT"])[:len(alone)] == alone


def test_resting_orders_are_filled_by_the_moving_book_and_it_goes_on_where_a_price_was_set():
    gateway = memory_gateway(market="model")
    client = RawClient(gateway)
    quote = gateway.exchange.quote_of(APPLE)
    limit = quote.bid - D("0.02")
    client.send(*place(1, lmt=str(limit)))
    now = START_NS
    while not gateway.exchange.done and now < START_NS + 7200 * NS:
        now = turns(gateway, 60, now)
    assert gateway.exchange.done[1, 1].status == "Filled"
    contract = gateway.contracts.named("AAPL")
    gateway.set_quote(contract, now, bid=D(50), ask=D("50.02"))
    turns(gateway, 60, now)
    assert 49 < quote.bid < quote.ask < 51


def test_nothing_moves_in_a_halt_or_in_the_night_and_less_in_extended_hours():
    gateway = memory_gateway(market="model")
    gateway.halt(gateway.contracts.named("AAPL"), 1, START_NS)
    before = len(gateway.tape(APPLE).quotes)
    turns(gateway, 60)
    assert len(gateway.tape(APPLE).quotes) == before
    counts = {}
    for start in ("03:00", "05:00", "10:00"):
        gateway, seen = recorded(300, start=f"2013-10-07T{start}", always_open=False)
        counts[start] = len(seen.quotes) + len(seen.prints)
    assert counts["03:00"] == 0
    assert 0 < counts["05:00"] < counts["10:00"] / 4


def test_a_day_at_sixty_times_the_pace_ends_its_day_orders_at_the_close():
    gateway = memory_gateway(market="model", start="2013-10-07T15:55", speed="60", always_open=False)
    client = RawClient(gateway)
    client.send(1, 11, 5, *AAPL, 0, "", 0, 0, "")
    client.send(*place(1, lmt="50"))
    turns(gateway, 4.9)
    assert gateway.exchange.orders
    turns(gateway, 0.1, START_NS + int(4.9 * NS))
    assert gateway.exchange.done[1, 1].status == "Cancelled"


@pytest.mark.parametrize(("text", "said"), [
    ('[[model]]\nsymbol = "NOPE"', "not known"), ('[[model]]\nsymbol = "AAPL"\nvolatility = -1', "volatility"),
    ('[[model]]\nsymbol = "AAPL"\ncolour = 1', "colour"), ('[[model]]\nsymbol = "AAPL"\nspread = 0.5', "spread"),
    ("[[model]]\nvolatility = 1", "symbol")])
def test_a_bad_model_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "story.toml"
    path.write_text(f'title = "t"\n{text}\n')
    with pytest.raises(ScenarioError, match=said) as refused:
        memory_gateway(scenario=str(path))
    assert "story.toml:" in str(refused.value)


def test_profiles_have_defaults():
    assert Profile() == memory_gateway(market="model").profile(APPLE)
