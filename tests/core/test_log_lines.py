"""Records become the lines that the command wrote, whatever pieces they came in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.log_level import Level, level_of
from oneoff.core.log_lines import LineSplitter, LogLine

_BYTES = st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\xff", b"long" * 10]), max_size=30).map(b"".join)
Pieces = list[tuple[str, bytes]]


@st.composite
def pieces(draw: st.DrawFn) -> Pieces:
    """The output of both streams, cut and mixed."""
    return draw(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), _BYTES.filter(bool)), max_size=12))


def split(written: Pieces, most_bytes: int = 64) -> list[LogLine]:
    splitter = LineSplitter(most_bytes)
    lines, at = [], 0
    for stream, data in written:
        lines += splitter.feed(stream, 1_000 + at, at, data)
        at += len(data)
    return lines + splitter.flush()


def expected(written: Pieces, stream: str) -> list[bytes]:
    whole = b"".join(data for name, data in written if name == stream)
    lines = whole.split(b"\n")
    return [line[:-1] if line.endswith(b"\r") else line for line in lines[:-1] + ([lines[-1]] if lines[-1] else [])]


@given(pieces())
def test_each_stream_has_its_own_lines_in_order(written: Pieces) -> None:
    lines = split(written, 10_000)
    for stream in ("stdout", "stderr"):
        assert [line.data for line in lines if line.stream == stream] == expected(written, stream)


@given(pieces(), st.integers(1, 50))
def test_positions_are_unique_and_the_same_however_the_records_are_cut(written: Pieces, size: int) -> None:
    recut = [(stream, data[at : at + size]) for stream, data in written for at in range(0, len(data), size)]
    ids = [(line.stream, line.position, line.data) for line in split(written)]
    assert ids == [(line.stream, line.position, line.data) for line in split(recut)]
    assert len({position for _, position, _ in ids}) == len(ids)


@given(pieces(), st.integers(0, 400))
def test_whoever_comes_back_at_the_open_line_finds_every_line_that_follows(written: Pieces, stop: int) -> None:
    first, at, lines = LineSplitter(64), 0, []
    for stream, data in written:
        if at > stop:
            break
        lines += first.feed(stream, 0, at, data)
        at += len(data)
    done = max((line.position for line in lines), default=0)
    begin = at if first.open_from is None else first.open_from
    again, offset = LineSplitter(64), 0
    for stream, data in written:
        rest = data[max(0, begin - offset) :]
        if rest and offset + len(data) > begin:
            lines += [
                x for x in again.feed(stream, 0, offset + len(data) - len(rest), rest) if x.position > max(done, 0)
            ]
        offset += len(data)
    lines += again.flush()
    assert [(x.position, x.data) for x in lines] == [(x.position, x.data) for x in split(written)]


@given(pieces(), st.integers(1, 20))
def test_long_lines_say_how_much_of_them_is_missing(written: Pieces, most: int) -> None:
    whole, short = split(written, 10_000), split(written, most)
    assert [line.data[:most] for line in whole] == [line.data for line in short]
    assert [len(line.data) for line in whole] == [len(line.data) + line.cut_bytes for line in short]


def test_a_line_says_its_level_in_json_and_logfmt_and_else_its_stream_does() -> None:
    for data, level in {
        b'{"msg": "x", "level": "warn"}': Level.WARNING,
        b'{"level": 50, "msg": "x"}': Level.ERROR,
        b'{"severity": "CRITICAL"}': Level.CRITICAL,
        b'time=1 level=debug msg="level=error"': Level.DEBUG,
        b'level="error" msg=x': Level.ERROR,
        b"an error, level=high": Level.INFO,
        b"sublevel=error": Level.INFO,
        b'{"level": "warn"': Level.INFO,
        b'{"level": true}': Level.INFO,
        b'{"level": ["error"], "lvl": "alert"}': Level.ALERT,
        b"ERROR: no": Level.INFO,
        b"\xff\xfe": Level.INFO,
        b"": Level.INFO,
    }.items():
        assert level_of(data, "stdout") is level, data
    assert level_of(b"Traceback", "stderr") is Level.ERROR
    assert level_of(b"level=info", "stderr") is Level.INFO
