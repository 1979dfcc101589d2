"""Frames: whatever way the bytes arrive, the same frames come out, and nothing larger than the cap is believed."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.web.channel import (
    CAP,
    NULL,
    PATH_LIMIT,
    Answered,
    ChannelError,
    Follow,
    Operate,
    Rows,
    Splitter,
    Submit,
    choose_socket_path,
    find_socket_path,
    pack,
    pack_rows,
    read_reply,
    read_request,
    release_socket_path,
)
from tests.web.fakes import row

pytestmark = pytest.mark.unit

REQUESTS = [
    Submit(id=1, intent=msgspec.Raw(b'{"a":1}')),
    Operate(id=2, verb="flatten", bracket_id="B1", command_id="c"),
    Follow(id=3),
]


@given(st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=40))
def test_any_cut_of_the_stream_gives_the_same_frames(cuts):
    stream = b"".join(pack(request) for request in REQUESTS)
    splitter, bodies, start = Splitter(), [], 0
    for cut in cuts:
        bodies += splitter.feed(stream[start : start + cut])
        start += cut
    bodies += splitter.feed(stream[start:])
    assert [type(read_request(body)) for body in bodies] == [Submit, Operate, Follow]


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_are_refused(data):
    splitter = Splitter()
    try:
        bodies = splitter.feed(data)
    except ChannelError:
        return
    for body in bodies:
        try:
            read_request(body)
        except ChannelError:
            continue


def test_a_length_above_the_cap_is_refused_before_anything_is_kept():
    with pytest.raises(ChannelError, match="announced"):
        Splitter().feed((CAP + 1).to_bytes(4, "big"))


def test_a_frame_above_the_cap_is_not_sent():
    with pytest.raises(ChannelError, match=str(CAP)):
        pack(Answered(id=1, accepted=False, code="x", sentence="y" * CAP))


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"type":"Follow"}', b'{"type":"Follow","id":1,"more":2}', b'{"type":"Answered"}',
     b"\x80\x04K\x01.", b'{"type":"Follow","id":"1"}', b"[" * 60_000],
)  # fmt: skip
def test_what_is_no_request_is_refused(body):
    with pytest.raises(ChannelError):
        read_request(body)


def test_rows_are_packed_in_order_below_the_cap_and_none_is_lost():
    rows = tuple(row(seq, note="x" * (seq * 700 % 9_000)) for seq in range(1, 60))
    packed = pack_rows(rows)
    assert len(packed) > 2
    assert all(len(frame) <= CAP + 4 for frame in packed)
    back = [read_reply(frame[4:]) for frame in packed]
    assert all(isinstance(frame, Rows) for frame in back)
    assert [line[0] for frame in back for line in frame.rows] == list(range(1, 60))
    assert [bytes(line[4]) for frame in back for line in frame.rows] == [line[4] for line in rows]


def test_a_row_larger_than_a_frame_comes_without_its_payload():
    frames = pack_rows((row(1), row(2, note="x" * CAP), row(3)))
    lines = [line for frame in frames for line in read_reply(frame[4:]).rows]
    assert [line[0] for line in lines] == [1, 2, 3]
    assert [line[4] == NULL for line in lines] == [False, True, False]


def test_the_socket_is_in_the_state_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choose_socket_path("s") == find_socket_path("s") == str(tmp_path / "s" / "engine.sock") or len(
        os.fsencode(str(tmp_path))
    ) > PATH_LIMIT - 14


def test_a_state_folder_with_a_long_path_gets_a_socket_elsewhere_and_a_pointer(tmp_path):
    folder = tmp_path / ("long" * 20) / ("longer" * 10)
    folder.mkdir(parents=True)
    path = choose_socket_path(str(folder))
    assert len(os.fsencode(path)) <= PATH_LIMIT
    assert find_socket_path(str(folder)) == path
    assert Path(path).parent.stat().st_mode & 0o077 == 0
    release_socket_path(str(folder))
    assert not Path(path).parent.exists()
    assert find_socket_path(str(folder)) == str(folder / "engine.sock")
