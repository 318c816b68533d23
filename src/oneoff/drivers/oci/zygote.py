"""A small process that forks supervisors. The driver starts it as `python -I -m oneoff.drivers.oci.zygote FD`.

It loads what a supervisor needs once, so that a supervisor costs a fork and shares its memory. Requests come over a
socket, length-prefixed JSON; the end of the socket (the server ended or let go of us) ends the zygote, and only it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import struct
import sys
import traceback

from oneoff.drivers.oci import supervisor

LENGTH = struct.Struct("<I")


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A stop of the server's process group must not end us before the server lets go.
        signal.signal(number, signal.SIG_IGN)
    # The kernel reaps supervisors: nobody here waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    requests.sendall(b"\n")
    while (request := _receive(requests)) is not None:
        if os.fork() == 0:
            _become_supervisor(requests, request)


def _receive(requests: socket.socket) -> dict[str, str] | None:
    header = _receive_exactly(requests, LENGTH.size)
    if header is None:
        return None
    body = _receive_exactly(requests, LENGTH.unpack(header)[0])
    return None if body is None else json.loads(body)


def _receive_exactly(requests: socket.socket, length: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < length:
        piece = requests.recv(length - len(parts))
        if not piece:
            return None
        parts += piece
    return bytes(parts)


def _become_supervisor(requests: socket.socket, request: dict[str, str]) -> None:
    status = 1
    try:
        os.setsid()
        requests.close()
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        supervisor.supervise(**request)
        status = 0
    except BaseException:  # noqa: BLE001 - the last stop of this process: say why in its folder, then end
        with contextlib.suppress(OSError), open(f"{request['folder']}/supervisor.err", "a") as file:  # noqa: PTH123
            traceback.print_exc(file=file)
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
