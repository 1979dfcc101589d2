"""The floor of the rig: a blocking socket that answers every tick with a frame made beforehand.

Run by bench_wire: python -m tests.benchmarks.wire_floor PORT. The first byte it sends says that it is there.
"""

import socket
import struct
import sys

body = b"3\0" + b"0\0" * 130
frame = struct.pack(">I", len(body)) + body
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while peer.recv(65_536):
        peer.sendall(frame)
