"""What runs may leave behind on a machine: containers, processes, cgroups, mounts, folders. Empty is right."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.crash.rig import Server
from tests.rig import process


def left_behind(server: Server) -> list[str]:
    """Every trace of a run of this server's installation, in words."""
    instance = _instance(server)
    found = [f"process {pid}" for pid in process.pids_naming("run-") if _is_supervisor(pid, server)]
    found += [f"mount {point}" for point in process.mounts_below(server.data)]
    found += [str(path) for path in (server.data / "oci" / "runs").glob("*/*")]
    found += [f"cgroup {path}" for path in _cgroups(instance)]
    found += [f"runtime state {path}" for path in Path("/run/oneoff").glob(f"{instance}/**/*run-*")]
    if server.docker_host:
        listing = docker(server, "/containers/json?all=1")
        found += [f"container {container['Names']}" for container in listing]
    return found


def docker(server: Server, path: str, method: str = "GET") -> list[dict[str, object]]:
    """A request to the engine's API, by curl: independent of our own client."""
    socket = server.docker_host.removeprefix("unix://")
    argv = ["curl", "-sS", "-X", method, "--unix-socket", socket, f"http://engine{path}"]
    listing: list[dict[str, object]] = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
    return listing


def _instance(server: Server) -> str:
    import sqlite3

    with sqlite3.connect(f"file:{server.data / 'oneoff.db'}?mode=ro", uri=True) as connection:
        return str(connection.execute("SELECT value FROM installation WHERE name = 'instance'").fetchone()[0])


def _is_supervisor(pid: int, server: Server) -> bool:
    try:
        return str(server.data) in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def _cgroups(instance: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [*root.glob(f"*/oneoff*{instance}*/*run-*"), *root.glob(f"oneoff*{instance}*/*run-*")]
