"""The two streams for which a general HTTP library is too slow or too tidy: a container's attached output, and its log.

Docker writes each log record as one chunk of its own: 30 microseconds in a library that parses chunks with care, well
under one here. Called by `logs` and `live`; addresses and API version come from `client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlencode

from oneoff.drivers.docker.client import Engine
from oneoff.errors import ContainerGone, EngineUnavailable

_BLOCK = 1 << 18
_LONGEST_HEAD = 1 << 16


@asynccontextmanager
async def open_log(engine: Engine, container_id: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body of GET /containers/ID/logs in large blocks. A body cut short raises EngineUnavailable."""
    path = f"/containers/{container_id}/logs?{urlencode(params)}"
    async with _exchange(engine, "GET", path, {}) as (reader, head):
        if "transfer-encoding: chunked" in head.lower():
            yield _read_chunked(reader)
        else:
            # An empty log comes with Content-Length: 0.
            yield _read_plain(reader, _content_length(head))


@asynccontextmanager
async def attach(engine: Engine, container_id: str) -> AsyncIterator[asyncio.StreamReader]:
    """Both output streams from now on, as frames without times, on a connection that is bare after the head."""
    path = f"/containers/{container_id}/attach?stream=1&stdout=1&stderr=1"
    async with _exchange(engine, "POST", path, {"Connection": "Upgrade", "Upgrade": "tcp"}) as (reader, _):
        yield reader


@asynccontextmanager
async def _exchange(
    engine: Engine, method: str, path: str, headers: Mapping[str, str]
) -> AsyncIterator[tuple[asyncio.StreamReader, str]]:
    version = await engine.version()
    lines = [f"{method} /v{version.api}{path} HTTP/1.1", "Host: engine", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await engine.open_socket(_LONGEST_HEAD)
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 120)).decode("latin-1")
        await _raise_if_refused(head, reader, path)
        yield reader, head
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        raise EngineUnavailable(f"the engine broke off {method} {path.partition('?')[0]}", str(error)) from error
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _raise_if_refused(head: str, reader: asyncio.StreamReader, path: str) -> None:
    status = int(head.split(" ", 2)[1])
    if status < 400:
        return
    words = (await reader.read(4096)).decode("utf-8", "replace").strip()
    if status == 404:
        raise ContainerGone(path.split("/")[2])
    raise EngineUnavailable(f"the engine refused {path.partition('?')[0]} ({status})", words)


async def _read_chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """RFC 9112, 7.1: length in hexadecimal, CRLF, data, CRLF; ends with a chunk of length 0."""
    buffer = b""
    while True:
        data = await reader.read(_BLOCK)
        if not data:
            raise EOFError("it ended without its last chunk")
        parts, rest, is_last = split_chunks(buffer + data if buffer else data)
        if parts:
            yield b"".join(parts)
        if is_last:
            return
        buffer = rest


def split_chunks(buffer: bytes) -> tuple[list[bytes], bytes, bool]:
    """The complete chunks, what is left over, and whether the last chunk was seen. Raises ValueError."""
    parts: list[bytes] = []
    position, length = 0, len(buffer)
    while (line := buffer.find(b"\r\n", position)) >= 0:
        size = int(buffer[position:line], 16)
        end = line + 2 + size
        if end + 2 > length:
            break
        if buffer[end : end + 2] != b"\r\n":
            raise ValueError("a chunk does not end where it should")
        if size == 0:
            return parts, b"", True
        parts.append(buffer[line + 2 : end])
        position = end + 2
    return parts, buffer[position:], False


async def _read_plain(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    while length:
        data = await reader.read(min(length, _BLOCK))
        if not data:
            raise EOFError(f"{length} bytes are missing")
        length -= len(data)
        yield data


def _content_length(head: str) -> int:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    raise ValueError("the answer does not say how long it is")
