"""The Unix socket between the engine and its HTTP process: frames of JSON, each behind its length.

Law: nothing is unpickled and nothing is guessed. A frame is four bytes of length (big-endian, at most CAP) and one JSON
object whose `type` names a class below; whoever sends anything else is hung up on, and nobody else notices.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

CAP = 65_536
"""Bytes of one frame without its length."""

NULL = msgspec.Raw(b"null")

PATH_LIMIT = 100
"""Bytes of a socket's path: the kernel's sun_path holds 108 with the final zero, macOS's 104."""

_HEAD = 4


class ChannelError(ValueError):
    """The other side does not keep to the protocol; the connection is over."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag=True):
    """Anything that crosses the socket. Its own kind, because it may grow where messages between actors may not."""


# -- to the engine ---------------------------------------------------------------------------------------------


class Submit(Frame, frozen=True, kw_only=True):
    """One intent, as raw JSON: the engine reads it with the same rules as the HTTP process did."""

    id: int
    intent: msgspec.Raw
    source: str = "http"


class Operate(Frame, frozen=True, kw_only=True):
    """One operator's verb. `changes` is for `modify` only, as raw JSON."""

    id: int
    verb: str
    bracket_id: str
    command_id: str
    actor: str = "operator"
    changes: msgspec.Raw = msgspec.Raw(b"{}")


class Describe(Frame, frozen=True, kw_only=True):
    """Ask every service for its facts."""

    id: int


class Follow(Frame, frozen=True, kw_only=True):
    """Send me what is committed and what is announced from now on."""

    id: int


# -- from the engine -------------------------------------------------------------------------------------------


class Answered(Frame, frozen=True, kw_only=True):
    """The one final answer to Submit or Operate."""

    id: int
    accepted: bool
    code: str
    sentence: str
    bracket_id: str | None = None
    field: str | None = None
    detail: dict[str, Any] | None = None


class Described(Frame, frozen=True, kw_only=True):
    """Facts by service; `silent` names those that did not answer in time."""

    id: int
    services: dict[str, dict[str, Any]]
    silent: list[str] = []


class Following(Frame, frozen=True, kw_only=True):
    id: int


class Gate(Frame, frozen=True, kw_only=True):
    """Whether orders can be sent. Comes first on every connection, then whenever it changes."""

    open: bool
    reason: str


class Rows(Frame, frozen=True, kw_only=True):
    """Committed events in order: (seq, key, bracket_id, type, payload, ts_ns); a payload beyond CAP is null."""

    rows: list[tuple[int, str, str | None, str, msgspec.Raw, int]]


class Noticed(Frame, frozen=True, kw_only=True):
    """A session's change or an alert, as it happened. It has no sequence number and is not replayed."""

    event: msgspec.Raw


Request = Submit | Operate | Describe | Follow
Reply = Answered | Described | Following | Gate | Rows | Noticed

_encoder = msgspec.json.Encoder(enc_hook=str)
REQUESTS: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
REPLIES: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(value: Any) -> msgspec.Raw:
    """Turn a message or facts into JSON that a frame may carry; Decimals and what JSON does not know become text."""
    return msgspec.Raw(_encoder.encode(value))


def pack(frame: Frame) -> bytes:
    """Turn a frame into bytes for the socket. Raises ChannelError if it is larger than CAP."""
    body = _encoder.encode(frame)
    if len(body) > CAP:
        raise ChannelError(f"a frame of {len(body)} bytes is larger than {CAP}")
    return len(body).to_bytes(_HEAD, "big") + body


def pack_rows(rows: tuple[tuple[int, str, str | None, str, bytes, int], ...]) -> list[bytes]:
    """Turn committed rows into as few frames as CAP allows, in order; a payload larger than that is left out."""
    packed: list[bytes] = []
    batch: list[tuple[int, str, str | None, str, msgspec.Raw, int]] = []
    room = CAP - 64
    for seq, key, bracket_id, kind, payload, ts_ns in rows:
        size = len(payload) + 6 * (len(key) + len(bracket_id or "") + len(kind)) + 64
        raw = msgspec.Raw(payload)
        if size > CAP - 64:
            raw, size = NULL, 6 * (len(key) + len(bracket_id or "") + len(kind)) + 64
        if size > room and batch:
            packed.append(pack(Rows(rows=batch)))
            batch, room = [], CAP - 64
        batch.append((seq, key, bracket_id, kind, raw, ts_ns))
        room -= size
    if batch:
        packed.append(pack(Rows(rows=batch)))
    return packed


class Splitter:
    """Cut a stream of bytes into the bodies of frames; never holds more than one frame and one read."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; return the bodies that are complete. Raises ChannelError on a length above CAP."""
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _HEAD:
            length = int.from_bytes(self._buffer[start : start + _HEAD], "big")
            if length > CAP:
                raise ChannelError(f"a frame of {length} bytes was announced; {CAP} are allowed")
            if len(self._buffer) - start - _HEAD < length:
                break
            bodies.append(bytes(self._buffer[start + _HEAD : start + _HEAD + length]))
            start += _HEAD + length
        if start:
            del self._buffer[:start]
        return bodies


def read_request(body: bytes) -> Request:
    """Read what a peer asked. Raises ChannelError."""
    try:
        return REQUESTS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise ChannelError(f"not a request: {problem}") from None


def read_reply(body: bytes) -> Reply:
    """Read what the engine answered. Raises ChannelError."""
    try:
        return REPLIES.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise ChannelError(f"not a reply: {problem}") from None


# -- where the socket is ---------------------------------------------------------------------------------------


def choose_socket_path(state_dir: str) -> str:
    """Return the path for the engine's socket: in the state folder, or, where that path is too long, in a private temp
    folder whose place `engine.sock.path` in the state folder tells."""
    path = os.path.join(os.path.abspath(state_dir), "engine.sock")
    pointer = Path(state_dir) / "engine.sock.path"
    if len(os.fsencode(path)) <= PATH_LIMIT:
        pointer.unlink(missing_ok=True)
        return path
    folder = tempfile.mkdtemp(prefix="bracketeer-")  # made with mode 0700
    path = os.path.join(folder, "engine.sock")
    pointer.write_text(path)
    pointer.chmod(0o600)
    return path


def release_socket_path(state_dir: str) -> None:
    """Remove the private temp folder and its pointer, where `choose_socket_path` had to make them."""
    pointer = Path(state_dir) / "engine.sock.path"
    try:
        folder = Path(pointer.read_text().strip()).parent
        pointer.unlink()
        folder.rmdir()
    except OSError:
        pass


def find_socket_path(state_dir: str) -> str:
    """Return where the engine of this state folder listens, whether or not it runs."""
    pointer = Path(state_dir) / "engine.sock.path"
    try:
        return pointer.read_text().strip()
    except OSError:
        return os.path.join(os.path.abspath(state_dir), "engine.sock")
