"""What Oneoff is measured against: the bare Engine API, the docker command, and the bare runtime on the same bundle."""

from __future__ import annotations

import copy
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.rig.dockerd import Dockerd

from bench.server import Failed, Oneoff, wait_until
from oneoff.drivers.oci import cgroup, linux

_SLEEP = {"command": ["sleep", "60"]}
# What Docker gives a container when nobody drops anything.
_DEFAULT_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)


class EngineApi:
    """The Engine API over one kept connection to its Unix socket."""

    def __init__(self, path: Path) -> None:
        self._connection = http.client.HTTPConnection("engine")
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.connect(str(path))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer as JSON, None when it is empty. Raises Failed."""
        content = None if body is None else json.dumps(body)
        self._connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        words = answer.read()
        if answer.status >= 400:
            raise Failed(f"{method} {path}: {answer.status} {words!r}")
        return json.loads(words) if words else None

    def run(self, body: Mapping[str, Any]) -> None:
        """Create, start, wait, remove."""
        container = self.call("POST", "/containers/create", body)["Id"]
        self.call("POST", f"/containers/{container}/start")
        code = self.call("POST", f"/containers/{container}/wait")["StatusCode"]
        self.call("DELETE", f"/containers/{container}?v=1")
        if code:
            raise Failed(f"exit code {code}")

    def is_empty(self) -> bool:
        return not self.call("GET", "/containers/json?all=1")

    def close(self) -> None:
        self._connection.close()


def body_of_a_run(server: Oneoff, engine: EngineApi) -> dict[str, Any]:
    """What the docker driver asks of the engine for a run, read back from the engine; its command is `true` then."""
    run_id = server.accept(_SLEEP)["id"]
    wait_until(lambda: server.call("GET", f"/runs/{run_id}")["status"] == "running")
    found = engine.call("GET", f"/containers/{engine.call('GET', '/containers/json')[0]['Id']}/json")
    _end(server, run_id)
    wait_until(engine.is_empty)
    config: dict[str, Any] = {**found["Config"], "Entrypoint": ["true"], "Cmd": [], "Labels": {}}
    return {**config, "HostConfig": found["HostConfig"]}


def to_plain_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same container without hardening: default capabilities, no seccomp, no limits."""
    plain = copy.deepcopy(dict(body))
    limits = dict.fromkeys(("Memory", "MemorySwap", "NanoCpus", "PidsLimit"), 0)
    plain["HostConfig"] |= {**limits, "CapDrop": [], "SecurityOpt": ["seccomp=unconfined"]}
    return plain


def to_command_line(body: Mapping[str, Any]) -> list[str | Path]:
    """`docker run --rm` with the same limits."""
    host = body["HostConfig"]
    log = host["LogConfig"]
    options = [f"--log-opt={name}={value}" for name, value in log["Config"].items()]
    options += [f"--log-driver={log['Type']}", f"--memory={host['Memory']}", f"--memory-swap={host['MemorySwap']}"]
    options += [f"--cpus={host['NanoCpus'] / 1e9}", f"--pids-limit={host['PidsLimit']}", "--init", "--cap-drop=ALL"]
    return ["run", "--rm", "--security-opt=no-new-privileges", *options, body["Image"], "true"]


def run_command(engine: Dockerd, argv: list[str | Path]) -> None:
    """Raises RuntimeError unless it exits 0."""
    engine.docker(*argv)


class Bundle:
    """A bundle as the oci driver makes it for a run of `true`, of which bare runtimes run as many copies as wanted."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder = folder
        self._config = config

    def copy(self, name: str, *, is_plain: bool = False) -> Path:
        """A bundle folder of its own; its container may run beside those of other copies."""
        config = copy.deepcopy(self._config)
        config["linux"]["cgroupsPath"] = f"/oneoff-bench-{os.getpid()}-{name}"
        if is_plain:
            _take_hardening_off(config)
        folder = self._folder / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def run(self, copied: Path, runtime: str = "runc") -> None:
        """One bare `runc run`, or `crun run`. Raises Failed unless the command exits 0."""
        argv = [runtime, "--root", f"{self._folder}/{runtime}", "run", "--bundle", copied, f"bench-{copied.name}"]
        null, cover = subprocess.DEVNULL, _cover_newer_cgroups if runtime == "crun" and _has_both_cgroups() else None
        done = subprocess.run(argv, stdin=null, stdout=null, stderr=subprocess.PIPE, preexec_fn=cover, check=False)
        if done.returncode:
            raise Failed(f"{runtime} run: {done.returncode} {done.stderr!r}")


@contextmanager
def bundle_of_a_run(server: Oneoff) -> Iterator[Bundle]:
    """From a run of the server: its config.json, on an overlay of the same image and in a network namespace."""
    run_id = server.accept(_SLEEP)["id"]
    wait_until(lambda: server.call("GET", f"/runs/{run_id}")["status"] == "running")
    (made,) = server.containers()
    run = json.loads((made / "run.json").read_text())
    config = json.loads((Path(run["bundle"]) / "config.json").read_text())
    namespace = f"oneoff-bench-{os.getpid()}"
    # A bundle lies on a tmpfs, its writable layer on the disk of the data folder: as the driver has it.
    folder = Path(tempfile.mkdtemp(prefix="oneoff-bench-", dir="/dev/shm"))
    layers = server.data.parent / "floor"
    try:
        for name in ("hosts", "hostname", "resolv.conf"):
            shutil.copy(Path(run["bundle"]) / name, folder)
        _end(server, run_id)
        wait_until(lambda: not server.containers())
        _mount_overlay(run, layers)
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        yield Bundle(folder, _to_bare_config(config, run["bundle"], folder, layers / "root", namespace))
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)
        subprocess.run(["umount", layers / "root"], check=False, capture_output=True)
        shutil.rmtree(folder)


def _has_both_cgroups() -> bool:
    return {version for version, _ in cgroup.hierarchies()} == {"v1", "v2"}


def _cover_newer_cgroups() -> None:
    """In the child, before crun: it refuses to work as long as it sees both versions. The driver does the same."""
    linux.unshare_mounts()
    for version, mount in cgroup.hierarchies():
        if version == "v2":
            linux.mount("tmpfs", "oneoff-bench", mount)


def _to_bare_config(config: dict[str, Any], old: str, new: Path, root: Path, namespace: str) -> dict[str, Any]:
    config = json.loads(json.dumps(config).replace(old, str(new)))
    config["root"]["path"] = str(root)
    config["process"]["args"][-2:] = ["true"]
    for entry in config["linux"]["namespaces"]:
        if entry["type"] == "network":
            entry["path"] = f"/run/netns/{namespace}"
    return config


def _take_hardening_off(config: dict[str, Any]) -> None:
    held = [f"CAP_{name}" for name in _DEFAULT_CAPABILITIES]
    config["process"]["capabilities"] |= dict.fromkeys(("bounding", "effective", "permitted"), held)
    config["process"]["noNewPrivileges"] = False
    config["linux"] = {**config["linux"], "resources": {"devices": config["linux"]["resources"]["devices"]}}
    del config["linux"]["seccomp"]
    config["annotations"] = {}


def _mount_overlay(run: dict[str, Any], layers: Path) -> None:
    for name in ("upper", "work", "root"):
        (layers / name).mkdir(parents=True)
    options = f"lowerdir={run['lowerdir']},upperdir={layers}/upper,workdir={layers}/work,volatile"
    argv = ["mount", "-t", "overlay", "oneoff-bench", "-o", options, layers / "root"]
    subprocess.run(argv, cwd=run["image"], check=True)


def _end(server: Oneoff, run_id: str) -> None:
    server.call("POST", f"/runs/{run_id}/cancel")
    server.follow(run_id)
