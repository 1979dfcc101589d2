"""What makes Thespian's TCP base fit to be run: loopback only, every frame signed, every process tied to its parent.

Law: a stranger's bytes are never unpickled. As shipped, every process of the TCP base listens on all interfaces and
unpickles whatever anybody sends it, and a child outlives its parent. Asserted against thespian 4.0.1 and nothing else.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import multiprocessing
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from importlib.metadata import version
from typing import Any

from thespian.system import multiprocCommon
from thespian.system.transport import IPBase, TCPTransport
from thespian.system.transport.streamBuffer import ReceiveBuffer, ackDataErrPacket, ackPacket, toSendBuffer

from actors import thespian_turns
from actors.ground import ISOLATED
from messages.supervision import EngineProcess

SHIMMED_VERSION = "4.0.1"
LOOPBACK = "127.0.0.1"
MAX_FRAME_BYTES = 1 << 20
"""Messages are at most 64 KB; Thespian's own status replies and log records are smaller than this too."""
MAX_HEADER_BYTES = 12
LOOK_SECONDS = 1.0
ORDERLY_END_SECONDS = 20.0
"""How long the root may take to end the engine after the launcher has ended."""
_PR_SET_PDEATHSIG = 1
_DIGEST_BYTES = hashlib.sha256().digest_size

launcher_pidfd: int | None = None
"""Readable once the launcher has ended; every process of the engine inherits it."""


class ForgedFrame(ValueError):
    """A frame that does not carry the launcher's signature, or is too long to be one of ours."""


class SignedPickle:
    """pickle, behind HMAC-SHA256: what does not carry our signature is refused before it is looked at."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def dumps(self, value: Any) -> bytes:
        """Return the signature and the pickle. Raises ForgedFrame when the frame would be too long to be accepted."""
        body = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        if len(body) + _DIGEST_BYTES > MAX_FRAME_BYTES:
            raise ForgedFrame(f"a message of {len(body)} bytes; the limit is {MAX_FRAME_BYTES - _DIGEST_BYTES}")
        return hmac.digest(self._key, body, "sha256") + body

    def loads(self, frame: bytes) -> Any:
        """Return the value of a frame of ours. Raises ForgedFrame for any other, without unpickling it."""
        frame = bytes(frame)
        signature, body = frame[:_DIGEST_BYTES], frame[_DIGEST_BYTES:]
        if not hmac.compare_digest(signature, hmac.digest(self._key, body, "sha256")):
            raise ForgedFrame("a frame without the launcher's signature")
        return pickle.loads(body)


class CappedReceiveBuffer(ReceiveBuffer):  # type: ignore[misc]
    """Thespian's buffer with a limit on the length that a frame may declare, and on the length of the declaration."""

    def addMore(self, buf: bytes) -> None:
        super().addMore(buf)
        if self._size is None:
            if len(self._buf) > MAX_HEADER_BYTES:
                raise ForgedFrame("a frame whose header does not end")
        elif not 0 <= self._size <= MAX_FRAME_BYTES:
            raise ForgedFrame(f"a frame that declares {self._size} bytes; the limit is {MAX_FRAME_BYTES}")


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent dies, and leave at once if that has happened already."""
    parent = multiprocessing.parent_process()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    elif parent is not None:
        threading.Thread(target=_look_for_parent, args=(parent.pid,), daemon=True).start()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)


def _look_for_parent(pid: int) -> None:
    """Where the kernel cannot do it: look once a second whether the parent is still the same."""
    while os.getppid() == pid:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


def launcher_has_ended() -> bool:
    """Tell whether the process that launched the engine is gone (a zombie counts as gone)."""
    if launcher_pidfd is None:
        return False
    poller = select.poll()
    poller.register(launcher_pidfd, select.POLLIN)
    return bool(poller.poll(0))


_original_start_child = multiprocCommon.startChild
_original_prepare_admin = multiprocCommon.multiprocessCommon._startAdmin
_original_start_admin = multiprocCommon.startAdmin
_original_start_logger = multiprocCommon.startupASLogger
_OriginalAdmin = multiprocCommon.MultiProcAdmin


def _start_child(*args: Any, **kwargs: Any) -> None:
    die_with_parent()
    ISOLATED.reset()
    _original_start_child(*args, **kwargs)


def _start_logger(*args: Any, **kwargs: Any) -> None:
    die_with_parent()  # it inherits the admin's listening socket and would keep the port refused for over 90 s
    _original_start_logger(*args, **kwargs)


_launchers_fds: list[int] = []


def _prepare_admin(self: Any, *args: Any, **kwargs: Any) -> None:
    """Before the fork, in the launcher: note the sockets that the engine must not inherit."""
    _launchers_fds[:] = self.transport.childResetFileNumList()
    _original_prepare_admin(self, *args, **kwargs)


def _start_admin(*args: Any, **kwargs: Any) -> None:
    multiprocCommon.closeFileNums(_launchers_fds)
    signal.set_wakeup_fd(-1)  # the launcher's: our signals are not its own
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _original_start_admin(*args, **kwargs)


class ShimmedAdmin(_OriginalAdmin):  # type: ignore[misc, valid-type]
    """Thespian's admin, which tells the launcher its pid and does not outlive it.

    No process is its parent, so it looks every second. The root ends the engine in good order when the launcher has
    ended; the admin waits for that, and exits once the root is gone or has had its time. Everything dies with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ISOLATED.tell_host(EngineProcess(role="admin", pid=os.getpid()))
        self._looks_without_launcher = 0
        signal.signal(signal.SIGALRM, self._look_for_launcher)
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        super().__init__(*args, **kwargs)

    def _look_for_launcher(self, number: int, frame: Any) -> None:
        if not launcher_has_ended():
            return
        self._looks_without_launcher += 1
        living = [child for child in getattr(self, "_child_procs", []) if child.childProc.is_alive()]
        if not living or self._looks_without_launcher * LOOK_SECONDS > ORDERLY_END_SECONDS:
            os._exit(1)


def _loopback_address(
    self: Any, af: int, socktype: int, proto: int, baseaddr: Any, port: Any, external: Any = False
) -> None:
    """Replace IPActorAddress.__init__: no route is probed, nothing is bound or announced but loopback."""
    self.af, self.socktype, self.proto = af, socktype, proto
    self.sockname = self.bindname = (LOOPBACK, int(port or 0))


def install(key: bytes, pidfd: int | None) -> None:
    """Put the shim in place, in the launcher, before the actor system is made: its processes inherit it by fork.

    Raises RuntimeError on any other version of Thespian, ValueError for a key under 32 bytes.
    """
    global launcher_pidfd
    found = version("thespian")
    if found != SHIMMED_VERSION:
        raise RuntimeError(f"thespian {found} is installed; thespian_shim.py is made for exactly {SHIMMED_VERSION}")
    if len(key) < _DIGEST_BYTES:
        raise ValueError(f"the key has {len(key)} bytes; it must have at least {_DIGEST_BYTES}")
    signed = SignedPickle(key)
    TCPTransport.serializer = signed
    TCPTransport.ackMsg = toSendBuffer(ackPacket, signed.dumps)
    TCPTransport.ackDataErrMsg = toSendBuffer(ackDataErrPacket, signed.dumps)
    TCPTransport.ReceiveBuffer = CappedReceiveBuffer
    thespian_turns.install()
    IPBase.IPActorAddress.__init__ = _loopback_address
    multiprocCommon.multiprocessCommon._startAdmin = _prepare_admin
    multiprocCommon.startAdmin = _start_admin
    multiprocCommon.startChild = _start_child
    multiprocCommon.startupASLogger = _start_logger
    multiprocCommon.MultiProcAdmin = ShimmedAdmin
    launcher_pidfd = pidfd


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
