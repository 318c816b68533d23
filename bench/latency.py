"""From accepted to finished, of `true`: the docker and the oci driver, and what hardening costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.rig.dockerd import Dockerd, private_dockerd

from bench import floor
from bench.floor import Bundle, EngineApi
from bench.measuring import Sample, in_turn, ratio
from bench.report import Mark, Result, compare
from bench.server import TRUE, Oneoff, oneoff, wait_until

_API, _COMMAND, _RUNC = "bare Engine API", "docker run --rm", "bare runc run"
_CRUN = "Oneoff, oci (crun)"
_CHECKED = "Every run's status and every exit code is checked; a container is gone before the next sample."


def latency_docker(folder: Path, samples: int) -> Result:
    with _docker(folder) as (server, dockerd, engine):
        body = floor.body_of_a_run(server, engine)
        argv = floor.to_command_line(body)
        peers = [
            _ours(server, "Oneoff, docker", engine.is_empty),
            timed(_API, lambda: engine.run(body)),
            timed(_COMMAND, lambda: floor.run_command(dockerd, argv)),
        ]
        taken = in_turn(peers, samples)
    against_api = ratio(taken["Oneoff, docker"], taken[_API])
    against_command = ratio(taken["Oneoff, docker"], taken[_COMMAND])
    return Result(
        "Oneoff: from before `POST …/runs` to the `end` event on the client's side. Bare: create, start, wait, remove "
        f"with the HostConfig of Oneoff's own containers, over one kept connection. {_CHECKED}",
        compare(taken, _API),
        [
            Mark("docker driver at most 1.10 × the bare Engine API", str(against_api), against_api.median <= 1.10),
            Mark("faster than `docker run --rm`", str(against_command), against_command.median < 1),
        ],
    )


def latency_oci(folder: Path, samples: int) -> Result:
    with ExitStack() as stack:
        docker, _, engine = stack.enter_context(_docker(folder))
        server, bundle = stack.enter_context(oci(folder / "oci"))
        on_runc = stack.enter_context(oneoff(folder / "runc", "oci", oci_runtime="runc"))
        on_runc.create_service()
        copied = bundle.copy("a")
        peers = [
            _ours(server, _CRUN, lambda: not server.containers()),
            _ours(on_runc, "Oneoff, oci (runc)", lambda: not on_runc.containers()),
            timed(_RUNC, lambda: bundle.run(copied)),
            _ours(docker, "Oneoff, docker", engine.is_empty),
        ]
        taken = in_turn(peers, samples)
    marks = []
    for name in (_CRUN, "Oneoff, oci (runc)"):
        bare, against = ratio(taken[name], taken[_RUNC]), ratio(taken["Oneoff, docker"], taken[name])
        marks.append(Mark(f"{name}: at most 2 × a bare `runc run` (aim 1.5)", str(bare), bare.median <= 2))
        marks.append(Mark(f"{name}: at least 5 × faster than the docker driver", str(against), against.median >= 5))
    return Result(
        "Oneoff as above, on crun, which it takes by itself where it is installed, and on runc; bare: `runc run` of a "
        "bundle that the driver made: same limits, init, seccomp profile and "
        f"image, an overlay that is mounted already, a ready network namespace. {_CHECKED}",
        compare(taken, _RUNC),
        marks,
    )


def hardening(folder: Path, samples: int) -> Result:
    with ExitStack() as stack:
        docker, _, engine = stack.enter_context(_docker(folder))
        _, bundle = stack.enter_context(oci(folder / "oci"))
        body = floor.body_of_a_run(docker, engine)
        plain_body = floor.to_plain_body(body)
        full, plain = bundle.copy("full"), bundle.copy("plain", is_plain=True)
        peers = [
            timed("crun, plain", lambda: bundle.run(plain, "crun")),
            timed("crun, hardened", lambda: bundle.run(full, "crun")),
            timed("runc, plain", lambda: bundle.run(plain)),
            timed("runc, hardened", lambda: bundle.run(full)),
            timed("engine, plain", lambda: engine.run(plain_body)),
            timed("engine, hardened", lambda: engine.run(body)),
        ]
        taken = in_turn(peers, samples)
    marks = []
    for name in ("crun", "runc", "engine"):
        cost = ratio(taken[f"{name}, hardened"], taken[f"{name}, plain"])
        marks.append(Mark(f"hardening costs at most 1.15 × ({name})", str(cost), cost.median <= 1.15))
    return Result(
        "The full profile, as the drivers have it, against the same container with the default capabilities, no "
        "seccomp, no limits, both started without Oneoff. Init, network and log driver are the same.",
        compare(taken, "crun, plain"),
        marks,
    )


def timed(name: str, work: Callable[[], None]) -> Sample:
    def sample() -> Mapping[str, float]:
        began = time.perf_counter()
        work()
        return {name: time.perf_counter() - began}

    return sample


@contextmanager
def oci(folder: Path, **settings: object) -> Iterator[tuple[Oneoff, Bundle]]:
    """A server on the oci driver, and a bundle as it makes them."""
    with oneoff(folder, "oci", **settings) as server:
        server.create_service()
        with floor.bundle_of_a_run(server) as bundle:
            yield server, bundle


@contextmanager
def _docker(folder: Path) -> Iterator[tuple[Oneoff, Dockerd, EngineApi]]:
    """A private engine and a server on it."""
    home = folder / "engine"
    home.mkdir(parents=True)
    with private_dockerd(home) as dockerd, oneoff(folder / "docker", "docker", docker_host=dockerd.host) as server:
        server.create_service()
        engine = EngineApi(dockerd.socket)
        try:
            yield server, dockerd, engine
        finally:
            engine.close()


def _ours(server: Oneoff, name: str, is_settled: Callable[[], bool]) -> Sample:
    def sample() -> Mapping[str, float]:
        seen, written = server.timed_run(TRUE)
        wait_until(is_settled)
        return {name: seen, f"{name}, by its own records": written}

    return sample
