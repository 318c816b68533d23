"""A private Docker Engine: own data, sockets, containerd, bridge and subnets; ended by pid, and nothing is left of it.

It leaves the packet filter alone (`--iptables=false`), so engines of parallel tests do not flush each other's rules.
Containers therefore reach the host at `Dockerd.gateway` and each other, but nothing beyond.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig import process
from tests.rig.process import Slot

_CONTAINERD_CONFIG = """\
version = 2
root = "{data}/containerd"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{run}/containerd.sock"
"""


class Dockerd:
    """A running engine. `host` is what DOCKER_HOST takes."""

    def __init__(self, slot: Slot, folder: Path, options: list[str]) -> None:
        self.folder = folder
        self.socket = slot.folder / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.gateway = f"10.231.{slot.number}.1"
        self.bridge = f"oorig{slot.number}"
        self.cgroup = f"oneoff-rig-{slot.number}"
        self.log = folder / "dockerd.log"
        self._run = slot.folder
        self._options = [*options, f"--default-address-pool=base=10.232.{16 * slot.number}.0/20,size=26"]
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of dockerd, while it runs."""
        if self._dockerd is None:
            raise RuntimeError("the engine is not running")
        return self._dockerd.pid

    @property
    def containerd_pid(self) -> int:
        if self._containerd is None:
            raise RuntimeError("containerd is not running")
        return self._containerd.pid

    def start(self) -> None:
        """Start what does not run; returns when the engine answers."""
        if self._containerd is None:
            self._start_containerd()
        argv = ["dockerd", "--host", self.host, "--pidfile", f"{self._run}/dockerd.pid", *self._arguments()]
        # After a kill the socket file still lies there, and would look ready.
        self.socket.unlink(missing_ok=True)
        # A killed dockerd leaves its pidfile, and the number may have been given to somebody else since.
        (self._run / "dockerd.pid").unlink(missing_ok=True)
        self._dockerd = process.start(argv, self.log)
        process.wait_until_ready(self._answers, self._dockerd, self.log, 60)

    def stop(self) -> None:
        """SIGTERM dockerd and wait; containerd goes on."""
        if self._dockerd is not None:
            process.end(self._dockerd, 30)
            self._dockerd = None

    def kill9(self) -> None:
        """SIGKILL dockerd; its containers and containerd go on."""
        if self._dockerd is not None:
            process.end(self._dockerd, 0)
            self._dockerd = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def docker(self, *arguments: str | Path) -> str:
        """The docker command on this engine, with no user configuration; returns stdout, raises when it fails."""
        environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self._run / "cli")}
        done = subprocess.run(["docker", *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"docker {arguments} exited {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def load(self, archive: Path) -> None:
        """Bring in the images of a `docker save` archive."""
        self.docker("load", "--quiet", "--input", archive)

    def close(self) -> None:
        """End everything this engine started."""
        process.kill_cgroup(self.cgroup)
        self.stop()
        if self._containerd is not None:
            process.end(self._containerd)
            self._containerd = None

    def _start_containerd(self) -> None:
        config = self._run / "containerd.toml"
        config.write_text(_CONTAINERD_CONFIG.format(data=self.folder, run=self._run))
        log = self.folder / "containerd.log"
        self._containerd = process.start(["containerd", "--config", config], log)
        socket = str(self._run / "containerd.sock")
        process.wait_until_ready(lambda: process.accepts(socket), self._containerd, log, 30)

    def _answers(self) -> bool:
        return process.answers_ping(str(self.socket))

    def _arguments(self) -> list[str]:
        config = self._run / "daemon.json"
        config.write_text(json.dumps({}))
        fixed = {
            "config-file": config,
            "data-root": self.folder / "docker",
            "exec-root": self._run / "exec",
            "containerd": self._run / "containerd.sock",
            "bridge": self.bridge,
            "cgroup-parent": f"/{self.cgroup}",
            "exec-opt": "native.cgroupdriver=cgroupfs",
            "storage-driver": "overlay2",
            "group": "root",
            "iptables": "false",
            "ip6tables": "false",
            "ip-masq": "false",
            "userland-proxy": "false",
        }
        return [*(f"--{key}={value}" for key, value in fixed.items()), *self._options]


@contextmanager
def private_dockerd(
    folder: Path, *, live_restore: bool = False, debug: bool = False, options: tuple[str, ...] = ()
) -> Iterator[Dockerd]:
    """A Docker Engine with its data and logs in `folder`; `options` are further words for dockerd."""
    given = [*options, *(["--live-restore"] if live_restore else []), *(["--debug"] if debug else [])]
    if shutil.which("runsc"):
        given.append(f"--add-runtime=runsc={shutil.which('runsc')}")
    with process.slot("dockerd", _clean) as slot:
        # Found again by the next owner of the slot if this process is killed.
        (slot.folder / "folder").write_text(str(folder))
        engine = Dockerd(slot, folder, given)
        _make_bridge(engine)
        try:
            engine.start()
            yield engine
        finally:
            engine.close()


def _make_bridge(engine: Dockerd) -> None:
    # With an address of its own, as Docker gives its bridges: else it changes as containers come and go, and those that
    # knew the old one reach nothing for most of a minute.
    mac = "02:42:" + ":".join(f"{int(part):02x}" for part in engine.gateway.split("."))
    for arguments in (
        ["link", "add", "name", engine.bridge, "address", mac, "type", "bridge"],
        ["addr", "add", f"{engine.gateway}/24", "dev", engine.bridge],
        ["link", "set", engine.bridge, "up"],
    ):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _clean(slot: Slot) -> None:
    """Remove whatever an engine of this slot left: processes, mounts, cgroups, bridges, data."""
    process.kill_cgroup(f"oneoff-rig-{slot.number}")
    # dockerd, containerd and the shims all have the slot's folder in their arguments.
    process.kill(process.pids_naming(f"{slot.folder}/"))
    record = slot.folder / "folder"
    if record.exists():
        folder = Path(record.read_text())
        for name in ("docker", "containerd"):
            process.remove_tree(folder / name)
    process.remove_cgroup(f"oneoff-rig-{slot.number}")
    # Its own bridge, and those of networks made by tests.
    first = 16 * slot.number
    process.delete_links({f"10.231.{slot.number}", *(f"10.232.{third}" for third in range(first, first + 16))})
