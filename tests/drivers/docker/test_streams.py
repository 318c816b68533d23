"""Frames and newlines: whatever way the bytes arrive, the same comes out, or an error."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneoff.drivers.docker.demux import Demultiplexer
from oneoff.drivers.docker.logs import _proves_end
from oneoff.errors import EngineUnavailable

T1, T2, T3 = (b"2026-11-22T10:41:51.23211111%dZ" % digit for digit in (1, 2, 3))


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">B3xL", stream, len(data)) + data


def joined(demultiplexer: Demultiplexer, blocks: list[bytes]) -> dict[int, bytes]:
    found = {1: b"", 2: b""}
    for block in blocks:
        for piece in demultiplexer.feed(block):
            found[piece.stream] += piece.data
    for piece in demultiplexer.finish():
        found[piece.stream] += piece.data
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=30)


@settings(deadline=None)
@given(FRAMES, st.lists(st.integers(min_value=0, max_value=10_000), max_size=20))
def test_frames_come_out_whole_however_they_are_cut(frames: list[tuple[int, bytes]], places: list[int]) -> None:
    data = b"".join(frame(stream, payload) for stream, payload in frames)
    expected = {stream: b"".join(p for s, p in frames if s == stream) for stream in (1, 2)}
    assert joined(Demultiplexer(has_times=False), cut(data, places)) == expected


@settings(deadline=None)
@given(FRAMES, st.lists(st.integers(min_value=0, max_value=10_000), max_size=20))
def test_times_are_taken_off_records(frames: list[tuple[int, bytes]], places: list[int]) -> None:
    data = b"".join(frame(stream, T1 + b" " + payload) for stream, payload in frames)
    expected = {stream: b"".join(p for s, p in frames if s == stream) for stream in (1, 2)}
    assert joined(Demultiplexer(), cut(data, places)) == expected


@pytest.mark.parametrize(
    "data",
    [b"\x04\0\0\0\0\0\0\1x", b"\1\0\1\0\0\0\0\1x", b"\1\0\0\0\xff\0\0\0", b"GET / HTTP/1.1\r\n", frame(1, b"no-time")],
)
def test_a_stream_out_of_step_is_an_error(data: bytes) -> None:
    with pytest.raises(EngineUnavailable):
        Demultiplexer().feed(data)


def test_the_engines_own_error_is_told_with_its_words() -> None:
    with pytest.raises(EngineUnavailable, match="Error grabbing logs: EOF"):
        Demultiplexer().feed(frame(3, b"Error grabbing logs: EOF"))


def test_a_stream_cut_inside_a_frame_is_an_error() -> None:
    demultiplexer = Demultiplexer(has_times=False)
    demultiplexer.feed(frame(1, b"whole") + frame(1, b"cut")[:-1])
    with pytest.raises(EngineUnavailable, match="cut inside a frame"):
        demultiplexer.finish()


def records(*given: tuple[bytes, bytes]) -> bytes:
    return b"".join(frame(1, time + b" " + data) for time, data in given)


@pytest.mark.parametrize(
    ("data", "expected", "assumed"),
    [
        # As Docker 20.10 writes 40,000 x and a newline, then a line.
        (records((T1, b"xx"), (T1, b"xx"), (T1, b"x"), (T2, b"next\n")), b"xxxxx\nnext\n", set()),
        (records((T1, b"xx"), (T1, b""), (T2, b"next\n")), b"xx\nnext\n", set()),
        (records((T1, b"xx"), (T1, b"x"), (T2, b"yy"), (T2, b"y"), (T3, b"z\n")), b"xxx\nyyy\nz\n", set()),
        (records((T1, b"a\n"), (T2, b"no newline")), b"a\nno newline", set()),
        (records((T1, b"xx"), (T1, b"x")), b"xxx\n", {1}),
        (records((T1, b"\n"), (T1, b"\n")), b"\n\n", set()),
    ],
)
def test_newlines_that_the_local_log_loses_are_put_back(data: bytes, expected: bytes, assumed: set[int]) -> None:
    demultiplexer = Demultiplexer(mends_newlines=True)
    assert joined(demultiplexer, [data])[1] == expected
    assert demultiplexer.is_newline_assumed == assumed


def test_the_end_of_a_log_proves_that_nothing_is_missing_only_if_it_does_not_repeat_itself() -> None:
    numbered = b"".join(b"line %d\n" % number for number in range(3000))
    assert _proves_end(numbered[-20_000:], numbered, may_lack_newline=False)
    assert not _proves_end(numbered[-20_000:], numbered[:-8], may_lack_newline=False)
    same = b"the same line\n" * 3000
    assert not _proves_end(same[-20_000:], same, may_lack_newline=False)
    assert _proves_end(b"", same, may_lack_newline=False)
    assert _proves_end(b"start " + b"x" * 100, b"start " + b"x" * 100 + b"\n", may_lack_newline=True)
