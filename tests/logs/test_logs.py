"""Writing, following, capping and compressing a run's log, on a real disk."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.logs.archive import compress_log
from oneoff.logs.folder import LogEnd, part_paths, read_end
from oneoff.logs.reader import LogReader
from oneoff.logs.record import LogRecord
from oneoff.logs.writer import LogWriter

NO_CAP = 1 << 40


def read_all(folder: Path, after: int = 0) -> list[LogRecord]:
    with LogReader(folder, after) as reader:
        found = []
        while records := reader.read():
            found += records
        return found


def joined(records: list[LogRecord], stream: str) -> bytes:
    return b"".join(record.data for record in records if record.stream == stream)


def write_sample(folder: Path, pieces: int, cap: int = NO_CAP, size: int = 4000) -> dict[str, bytes]:
    source = random.Random(pieces)
    written = {"stdout": bytearray(), "stderr": bytearray()}
    writer = LogWriter(folder, cap)
    for number in range(pieces):
        stream = source.choice(["stdout", "stderr"])
        data = source.randbytes(source.randrange(1, size))
        writer.append(stream, number, data)
        written[stream] += data
    writer.finish()
    return {stream: bytes(data) for stream, data in written.items()}


def test_both_streams_come_back_byte_for_byte(tmp_path: Path) -> None:
    written = write_sample(tmp_path, 300)
    records = read_all(tmp_path)
    assert {stream: joined(records, stream) for stream in written} == written
    assert records[-1].position == sum(map(len, written.values()))


def test_every_position_can_be_resumed_from(tmp_path: Path) -> None:
    write_sample(tmp_path, 60, size=300)
    whole = b"".join(record.data for record in read_all(tmp_path))
    for after in range(0, len(whole), 37):
        assert b"".join(record.data for record in read_all(tmp_path, after)) == whole[after:]


def test_a_compressed_log_reads_as_before_and_with_zstd_itself(tmp_path: Path) -> None:
    write_sample(tmp_path, 2000)
    before = read_all(tmp_path)
    raw = b"".join(path.read_bytes() for path in part_paths(tmp_path))
    assert compress_log(tmp_path)
    assert not part_paths(tmp_path)
    whole = b"".join(record.data for record in before)
    assert b"".join(record.data for record in read_all(tmp_path)) == whole
    for after in (1, len(whole) // 3, len(whole) - 1, len(whole)):
        assert b"".join(record.data for record in read_all(tmp_path, after)) == whole[after:]
    assert subprocess.run(["zstd", "-dc", tmp_path / "log.zst"], capture_output=True, check=True).stdout == raw


def test_a_log_that_is_still_written_is_not_compressed(tmp_path: Path) -> None:
    LogWriter(tmp_path, NO_CAP).append("stdout", 1, b"going on")
    assert not compress_log(tmp_path)
    assert joined(read_all(tmp_path), "stdout") == b"going on"


def test_a_follower_goes_on_through_compression(tmp_path: Path) -> None:
    write_sample(tmp_path, 500)
    whole = b"".join(record.data for record in read_all(tmp_path))
    with LogReader(tmp_path) as reader:
        found = b"".join(record.data for record in reader.read(1000))
        compress_log(tmp_path)
        while records := reader.read(1000):
            found += b"".join(record.data for record in records)
    assert found == whole


def test_a_follower_in_a_part_goes_on_in_the_archive_when_the_parts_are_gone(tmp_path: Path) -> None:
    write_sample(tmp_path, 500, cap=1_200_000)
    whole = b"".join(record.data for record in read_all(tmp_path))
    parts = part_paths(tmp_path)
    assert len(parts) > 3
    for after in (0, *(int(path.stem) - 1 for path in parts[1:])):
        folder = tmp_path.with_name(f"copy-{after}")
        shutil.copytree(tmp_path, folder)
        with LogReader(folder, after) as reader:
            found = b"".join(record.data for record in reader.read(1000))
            compress_log(folder)
            while records := reader.read(1000):
                found += b"".join(record.data for record in records)
        assert found == whole[after:]


def test_a_log_reads_whole_at_every_step_of_its_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path, 500, cap=1_200_000)
    whole = b"".join(record.data for record in read_all(tmp_path))
    parts = part_paths(tmp_path)
    places = [0, *(int(path.stem) - 1 for path in parts[1:])]
    begun = [LogReader(tmp_path, after) for after in places]
    found = [reader.read(1000) for reader in begun]
    steps = 0
    unlink = Path.unlink

    def remove_and_look(path: Path, missing_ok: bool = False) -> None:
        nonlocal steps
        unlink(path, missing_ok)
        steps += 1
        for after in places:
            assert b"".join(record.data for record in read_all(tmp_path, after)) == whole[after:]
        if steps < len(places):
            found[steps] += read_on(begun[steps])

    monkeypatch.setattr(Path, "unlink", remove_and_look)
    compress_log(tmp_path)
    assert steps == len(parts)
    found[0] += read_on(begun[0])
    for after, records, reader in zip(places, found, begun, strict=True):
        reader.close()
        assert b"".join(record.data for record in records) == whole[after:]


def read_on(reader: LogReader) -> list[LogRecord]:
    return list(itertools.chain.from_iterable(iter(reader.read, [])))


def test_the_first_part_may_go_between_a_look_and_the_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path, 500, cap=1_200_000)
    whole = b"".join(record.data for record in read_all(tmp_path))

    def look_and_compress(folder: Path) -> list[Path]:
        first, *later = part_paths(folder)
        held = [path.read_bytes() for path in later]
        compress_log(folder)
        for path, content in zip(later, held, strict=True):
            path.write_bytes(content)
        return [first, *later]

    with LogReader(tmp_path) as reader, monkeypatch.context() as patched:
        patched.setattr("oneoff.logs.reader.part_paths", look_and_compress)
        found = reader.read()
        patched.undo()
        assert b"".join(record.data for record in found + read_on(reader)) == whole


def test_beyond_the_cap_the_first_and_the_last_part_stay_and_the_rest_is_counted(tmp_path: Path) -> None:
    cap = 64_000
    written = write_sample(tmp_path, 500, cap, size=1000)
    records = read_all(tmp_path)
    kept = sum(len(record.data) for record in records)
    end = read_end(tmp_path)
    assert end is not None
    assert (end.stdout_bytes, end.stderr_bytes) == (len(written["stdout"]), len(written["stderr"]))
    assert end.missing_bytes == end.position - kept > 0
    assert cap * 0.85 <= kept <= cap * 1.1
    gaps = [(a.position, b.begin) for a, b in pairwise(records) if b.begin != a.position]
    assert len(gaps) == 1
    assert cap // 2 <= gaps[0][0] <= cap // 2 + 1000
    assert records[-1].position == end.position


def test_a_follower_that_keeps_up_sees_every_byte_of_a_capped_log(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, 10_000)
    sent = found = b""
    with LogReader(tmp_path) as reader:
        for number in range(400):
            data = os.urandom(200)
            writer.append("stdout", number, data)
            sent += data
            found += b"".join(record.data for record in reader.read())
    writer.close()
    assert found == sent


def test_a_writer_goes_on_behind_a_torn_record(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, NO_CAP)
    writer.append("stdout", 1, b"whole")
    writer.append("stderr", 2, b"torn by a power cut")
    writer.close()
    part = part_paths(tmp_path)[0]
    os.truncate(part, part.stat().st_size - 3)
    again = LogWriter(tmp_path, NO_CAP)
    assert (again.stdout_bytes, again.stderr_bytes) == (5, 0)
    again.append("stdout", 3, b" and more")
    assert again.finish() == LogEnd(14, 0, 0)
    assert joined(read_all(tmp_path), "stdout") == b"whole and more"


def test_all_parts_are_durable_before_the_log_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noting(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        sync(fd)

    monkeypatch.setattr(os, "fsync", noting)
    LogWriter(tmp_path, 1000).append("stdout", 1, b"a" * 600)  # by a writer that was killed behind its first part
    writer = LogWriter(tmp_path, 1000)
    writer.append("stdout", 2, b"b" * 10)
    writer.finish()
    parts = [path.name for path in part_paths(tmp_path)]
    assert len(parts) == 2
    assert synced == [*parts, "end.json.new", tmp_path.name]


def test_the_disk_is_told_of_each_byte_once_long_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, offset, length, _advice: told.append((offset, length)))
    writer = LogWriter(tmp_path, NO_CAP)
    for _ in range(160):
        writer.append("stdout", 1, b"x" * 200_000)
    size = part_paths(tmp_path)[0].stat().st_size
    assert [offset for offset, _ in told] == [0, *itertools.accumulate(length for _, length in told[:-1])]
    assert 0 <= size - sum(length for _, length in told) < 8 << 20
    writer.close()


def test_the_disk_is_told_of_a_part_that_is_full_however_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, int] = {}

    def note(fd: int, offset: int, length: int, _advice: int) -> None:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        assert offset == told.get(name, 0)
        told[name] = offset + length

    monkeypatch.setattr(os, "posix_fadvise", note)
    writer = LogWriter(tmp_path, 1000)
    for _ in range(120):
        writer.append("stdout", 1, b"x" * 10)
    writer.close()
    *full, _ = part_paths(tmp_path)
    assert len(full) > 2
    assert all(told[path.name] == path.stat().st_size for path in full)


@pytest.fixture
def tiny_disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_loses_no_count_and_later_output_is_kept_again(tiny_disk: Path) -> None:
    folder = tiny_disk / "log"
    writer = LogWriter(folder, NO_CAP)
    ballast = tiny_disk / "ballast"
    writer.append("stdout", 1, b"a" * 1000)
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)
    for number in range(20):
        writer.append("stderr", number, b"b" * 50_000)
    ballast.unlink()
    writer.append("stdout", 99, b"c" * 10)
    end = writer.finish()
    assert (end.stdout_bytes, end.stderr_bytes) == (1010, 1_000_000)
    records = read_all(folder)
    assert end.missing_bytes == end.position - sum(len(record.data) for record in records) > 900_000
    assert joined(records, "stdout") == b"a" * 1000 + b"c" * 10


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=200)), max_size=30),
    st.integers(0, 600),
)
def test_any_output_in_any_pieces_reads_back_from_any_position(pieces: list[tuple[str, bytes]], after: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        writer = LogWriter(Path(name), NO_CAP)
        for number, (stream, data) in enumerate(pieces):
            writer.append(stream, number, data)
        writer.finish()
        whole = b"".join(data for _, data in pieces)
        assert b"".join(record.data for record in read_all(Path(name), after)) == whole[after:]
