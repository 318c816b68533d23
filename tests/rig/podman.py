"""A private Podman service with its Docker-compatible socket: own storage, run folder and configuration.

Its containers.conf sets default ulimits, as an administrator may: a run must not inherit surprises from there.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig import process
from tests.rig.process import Slot

_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{run}/tmp"
[network]
network_backend = "cni"
network_config_dir = "{run}/networks"
default_network = "oopod{number}"
default_subnet_pools = [{{"base" = "10.234.{pool}.0/20", "size" = 26}}]
"""
_STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{data}/storage"
runroot = "{run}/storage"
"""
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
# Loopback registries speak plain HTTP, as Docker assumes by itself.
_REGISTRIES_CONF = """\
[[registry]]
prefix = "127.0.0.1"
location = "127.0.0.1"
insecure = true
"""


class Podman:
    """A running service. `host` is what DOCKER_HOST takes."""

    def __init__(self, slot: Slot, folder: Path) -> None:
        self.folder = folder
        self.gateway = f"10.233.{slot.number}.1"
        self.socket = slot.folder / "podman.sock"
        self.host = f"unix://{self.socket}"
        self.log = folder / "podman.log"
        self._run = slot.folder
        self._service: subprocess.Popen[bytes] | None = None
        _write_configuration(slot, folder)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(slot.folder),
            "XDG_CONFIG_HOME": str(slot.folder),
            "CONTAINERS_CONF": f"{slot.folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{slot.folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{slot.folder}/registries.conf",
            # `GET /info` asks dpkg for the package of each program, half a second in all; here it knows none.
            "DPKG_ADMINDIR": f"{slot.folder}/no-packages",
        }

    @property
    def pid(self) -> int:
        """Of the service, while it runs. Containers do not need it."""
        if self._service is None:
            raise RuntimeError("the service is not running")
        return self._service.pid

    def start(self) -> None:
        """Returns when the service answers."""
        self.socket.unlink(missing_ok=True)
        argv = [*self._command(), "system", "service", "--time=0", self.host]
        # conmon leaves an empty file `oom` where it was started
        self._service = process.start(argv, self.log, env=self._environment, cwd=self.folder)
        process.wait_until_ready(lambda: process.answers_ping(str(self.socket)), self._service, self.log, 60)

    def stop(self) -> None:
        if self._service is not None:
            process.end(self._service)
            self._service = None

    def kill9(self) -> None:
        """SIGKILL the service; containers go on under their conmon."""
        if self._service is not None:
            process.end(self._service, 0)
            self._service = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def podman(self, *arguments: str | Path) -> str:
        """The podman command on this storage; returns stdout, raises when it fails."""
        argv = [*self._command(), *arguments]
        done = subprocess.run(argv, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"podman {arguments} exited {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def load(self, archive: Path) -> None:
        """Bring in the images of a `docker save` archive."""
        self.podman("load", "--quiet", "--input", archive)

    def close(self) -> None:
        """Remove all containers and user networks, and end the service."""
        self.podman("rm", "--all", "--force", "--time", "0")
        self.podman("network", "prune", "--force")
        self.stop()

    def _command(self) -> list[str | Path]:
        # The options repeat what the files say: an existing storage would otherwise win over them.
        return [
            "podman",
            f"--root={self.folder}/storage",
            f"--runroot={self._run}/storage",
            f"--network-config-dir={self._run}/networks",
            f"--tmpdir={self._run}/tmp",
        ]


@contextmanager
def private_podman(folder: Path) -> Iterator[Podman]:
    """A Podman service with its images and its log in `folder`."""
    with process.slot("podman", _clean) as slot:
        (slot.folder / "folder").write_text(str(folder))
        engine = Podman(slot, folder)
        try:
            engine.start()
            yield engine
        finally:
            engine.close()


def _write_configuration(slot: Slot, folder: Path) -> None:
    values = {"run": slot.folder, "data": folder, "number": slot.number, "pool": 16 * slot.number}
    (slot.folder / "networks").mkdir()
    (slot.folder / "networks" / "default.conflist").write_text(json.dumps(_default_network(slot)))
    (slot.folder / "containers.conf").write_text(_CONTAINERS_CONF.format(**values))
    (slot.folder / "storage.conf").write_text(_STORAGE_CONF.format(**values))
    (slot.folder / "registries.conf").write_text(_REGISTRIES_CONF)
    (slot.folder / "containers").mkdir()
    (slot.folder / "containers" / "policy.json").write_text(json.dumps(_POLICY))


def _default_network(slot: Slot) -> dict[str, object]:
    """Own bridge, own address book and no packet filter rules, so that services of parallel tests do not meet."""
    name, subnet = f"oopod{slot.number}", f"10.233.{slot.number}"
    ranges = [[{"subnet": f"{subnet}.0/24", "gateway": f"{subnet}.1"}]]
    addresses = {"type": "host-local", "dataDir": f"{slot.folder}/addresses", "ranges": ranges}
    bridge = {"type": "bridge", "bridge": name, "isGateway": True, "ipMasq": False, "hairpinMode": True}
    plugin = bridge | {"ipam": addresses | {"routes": [{"dst": "0.0.0.0/0"}]}}
    return {"cniVersion": "0.4.0", "name": name, "plugins": [plugin]}


def _clean(slot: Slot) -> None:
    """Remove whatever an earlier service of this slot left."""
    # The service and each conmon have the slot's folder in their arguments; a container's processes are below conmon.
    process.kill(process.pids_below(process.pids_naming(f"{slot.folder}/")))
    record = slot.folder / "folder"
    if record.exists():
        process.remove_tree(Path(record.read_text()) / "storage")
    first = 16 * slot.number
    process.delete_links({f"10.233.{slot.number}", *(f"10.234.{third}" for third in range(first, first + 16))})
