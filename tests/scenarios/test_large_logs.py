"""Output by the hundred megabytes, through the real server on each real driver: exact, capped, and never in memory."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.crash.nursery import Nursery
from tests.crash.rig import Server
from tests.rig import images, layout
from tests.rig.dockerd import private_dockerd
from tests.rig.layout import Entry
from tests.rig.podman import private_podman

# Files of 1 MB, in lines of 100 bytes. Each copy of one begins with its number, so that none can stand for another.
LINES = {
    stream: b"".join(b"%s %095d\n" % (stream[3:].encode(), n) for n in range(10_000)) for stream in ("stdout", "stderr")
}
COPIES = 100  # of each stream: 200 MB
FEW_COPIES = 10  # the same driver speaks to Podman, which takes minutes to hand out 200 MB
INTERLEAVED = (
    "for i in $(seq COPIES); do echo copy $i; cat /srv/stdout; echo copy $i >&2; cat /srv/stderr >&2; done; "
    "printf 'the end'; printf 'another end' >&2"
)
CAP_BYTES = 256 << 20
GIGABYTE = 1000
BEYOND_CAP = 350  # Docker takes more than a minute for 1 GB, and treats it as it treats this
FLOOD = "for i in $(seq COPIES); do echo copy $i; cat /srv/stdout; done; printf 'the end'"
LONG_LINE = b"x" * 5_000_000
BINARY = bytes(range(256)) * 1000
LARGE = "plan-srv-010"  # two processors
MOST_GROWTH_KB = 64 << 10


@pytest.fixture(params=["oci", "docker", "podman"])
def server(request: pytest.FixtureRequest, nursery: Nursery, tmp_path: Path) -> Iterator[Server]:
    """Started, with the service of `image`."""
    data = tmp_path / "data"
    if request.param == "oci":
        with Server(data, "oci", nursery=nursery) as made:
            yield made
        return
    private = private_dockerd if request.param == "docker" else private_podman
    with private(tmp_path) as engine, Server(data, "docker", engine.host, nursery=nursery) as made:
        yield made


@pytest.fixture
def service_id(server: Server, image: str) -> str:
    server.start()
    body = {"path": "shop/production", "image": image, "networks": ["none"]}
    return str(server.call("POST", "/services", body)["id"])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Busybox and the files that the commands write out."""
    base = images.images()["base"]
    files = {**LINES, "long": LONG_LINE, "binary": BINARY}
    layer = tuple(Entry(f"srv/{name}", data, 0o644) for name, data in files.items())
    folder = tmp_path_factory.mktemp("images") / "layout"
    layout.write_layout(folder, {"large": replace(base, layers=(*base.layers, layer))})
    return f"oci:{folder}:large"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("server", "copies"), [("oci", COPIES), ("docker", COPIES), ("podman", FEW_COPIES)], indirect=["server"]
)
def test_200_mb_on_two_streams_are_exact_for_a_follower_that_comes_back_ten_times(
    server: Server, service_id: str, copies: int
) -> None:
    before = start_run(server, service_id, "true")
    server.wait_for_end(before)
    with Memory(server) as memory:
        run_id = start_run(server, service_id, INTERLEAVED.replace("COPIES", str(copies)))
        followed = Follower(server, run_id).follow(2 * copies * len(LINES["stdout"]), breaks=10)
        run = server.wait_for_end(run_id, 120)
    assert (run["status"], run["exit_code"]) == ("succeeded", 0)
    ends = {"stdout": b"the end", "stderr": b"another end"}
    for stream, lines in LINES.items():
        written, length = sha256_of_copies(lines, copies, ends[stream])
        assert run["log"][f"{stream}_bytes"] == length
        assert hashlib.sha256(server.output(run_id, stream)).hexdigest() == written, f"{stream} as stored"
        assert followed[stream] == written, f"{stream} as followed"
    assert run["log"]["missing_bytes"] == 0
    assert memory.growth_kb < MOST_GROWTH_KB


@pytest.mark.timeout(300)
@pytest.mark.parametrize(  # not Podman: see FEW_COPIES
    ("server", "copies"), [("oci", GIGABYTE), ("docker", BEYOND_CAP)], indirect=["server"]
)
def test_beyond_the_cap_the_first_and_the_last_part_are_kept_and_the_rest_is_counted(
    server: Server, service_id: str, copies: int
) -> None:
    with Memory(server) as memory:
        run_id = start_run(server, service_id, FLOOD.replace("COPIES", str(copies)))
        run = server.wait_for_end(run_id, 240)
    assert run["status"] == "succeeded"
    written = b"".join(b"copy %d\n" % number + LINES["stdout"] for number in range(1, copies + 1)) + b"the end"
    stored = server.output(run_id, "stdout")
    assert run["log"]["stdout_bytes"] == len(written)
    assert run["log"]["missing_bytes"] == len(written) - len(stored)
    assert CAP_BYTES * 0.9 < len(stored) <= CAP_BYTES + (1 << 20)
    first = CAP_BYTES // 2
    assert stored[:first] == written[:first]
    last = len(stored) - first - (1 << 20)
    assert stored[-last:] == written[-last:]
    assert memory.growth_kb < MOST_GROWTH_KB


def test_a_line_of_5_mb_and_every_byte_value_and_no_final_newline_come_as_they_were_written(
    server: Server, service_id: str
) -> None:
    run_id = start_run(server, service_id, "cat /srv/long; cat /srv/binary >&2; printf end")
    run = server.wait_for_end(run_id)
    assert run["log"] == {"stdout_bytes": len(LONG_LINE) + 3, "stderr_bytes": len(BINARY), "missing_bytes": 0}
    assert server.output(run_id, "stdout") == LONG_LINE + b"end"
    assert server.output(run_id, "stderr") == BINARY


def start_run(server: Server, service_id: str, shell: str) -> str:
    return str(server.call("POST", f"/services/{service_id}/runs", {"shell": shell, "instance_type": LARGE})["id"])


def sha256_of_copies(lines: bytes, copies: int, end: bytes) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    for part in (*(b"copy %d\n" % number + lines for number in range(1, copies + 1)), end):
        digest.update(part)
        length += len(part)
    return digest.hexdigest(), length


class Follower:
    """Reads the live stream, breaks off in the middle, and comes back with the last position it saw."""

    def __init__(self, server: Server, run_id: str) -> None:
        self._server = server
        self._path = f"/api/v1/runs/{run_id}/logs/stream"
        self._position = 0
        self._digests = {stream: hashlib.sha256() for stream in LINES}
        self._has_ended = False

    def follow(self, total: int, breaks: int) -> dict[str, str]:
        """The sha256 of each stream. `total` bytes are expected of both, as nearly as it takes to spread the breaks."""
        for number in range(1, breaks + 1):
            self._read(until=number * total // (breaks + 1))
        self._read(until=None)
        assert self._has_ended
        return {stream: digest.hexdigest() for stream, digest in self._digests.items()}

    def _read(self, until: int | None) -> None:
        token = (self._server.data / "admin-token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        headers = {"Authorization": f"Bearer {token}", "Last-Event-ID": str(self._position)}
        connection.request("GET", self._path, headers=headers)
        answer = connection.getresponse()
        event = b""
        while (until is None or self._position < until) and (line := answer.readline()):
            if line.startswith(b"event: "):
                event = line.removeprefix(b"event: ").strip()
            elif line.startswith(b"data: ") and event == b"log":
                self._take(json.loads(line.removeprefix(b"data: ")))
            elif line.startswith(b"data: ") and event == b"end":
                self._has_ended = True
        connection.close()

    def _take(self, record: dict[str, Any]) -> None:
        data = base64.b64decode(record["base64"]) if "base64" in record else record["text"].encode()
        assert record["position"] - len(data) == self._position, "a byte came twice, or not at all"
        self._position = record["position"]
        self._digests[record["stream"]].update(data)


class Memory:
    """Watches the server's resident memory: `growth_kb` from the beginning to the highest point."""

    def __init__(self, server: Server) -> None:
        assert server.running is not None
        self._status = Path(f"/proc/{server.running.pid}/status")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._before = self._highest = self._resident_kb()

    @property
    def growth_kb(self) -> int:
        return self._highest - self._before

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._highest = max(self._highest, self._resident_kb())

    def _resident_kb(self) -> int:
        return next(int(line.split()[1]) for line in self._status.read_text().splitlines() if line.startswith("VmRSS:"))
