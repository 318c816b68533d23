"""What the contract suite runs over. A new driver is one more function here and one more line in RIGS."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oneoff.drivers.docker.driver import DockerDriver
from oneoff.drivers.driver import Driver
from oneoff.drivers.fake import FakeDriver, FakeEngine
from oneoff.drivers.oci.driver import OciDriver
from tests.drivers import commands
from tests.rig import images


@dataclass(frozen=True)
class Rig:
    """A driver's world. `make(instance)` gives a new driver object on it, as a restarted server would."""

    name: str
    make: Callable[[str], Driver]
    image_refs: Mapping[str, str]  # rig image tag -> what `prepare` takes
    make_network: Callable[[str], None] | None = None  # a network a run can name
    # Sentences for what this rig cannot show, by the same keys as `Capabilities.notes`.
    notes: Mapping[str, str] = field(default_factory=dict)


def fake_rig(request: pytest.FixtureRequest) -> Rig:
    engine, networks = FakeEngine(), set[str]()
    engine.networks = networks
    engine.scripts.update({command.argv: command.script for command in commands.ALL})
    refs = {tag: images.image_ref(tag) for tag in images.TAGS}
    for tag, ref in refs.items():
        engine.add_image(ref, images.manifest_digest(tag))
    return Rig("fake", lambda instance: FakeDriver(instance, engine), refs, make_network=networks.add)


def docker_rig(request: pytest.FixtureRequest) -> Rig:
    engine = request.getfixturevalue("dockerd")
    refs = {tag: images.image_ref(tag) for tag in images.TAGS}

    def make_network(name: str) -> None:
        if name not in engine.docker("network", "ls", "--format", "{{.Name}}").split():
            engine.docker("network", "create", name)

    # docker/test_bad_days.py has the sandbox with a network of its own kind.
    notes = {"sandboxes": "Debian's runsc of 2022 cannot set up its network on this kernel"}
    return Rig("docker", lambda instance: DockerDriver(instance, engine.host), refs, make_network, notes)


def podman_rig(request: pytest.FixtureRequest) -> Rig:
    engine = request.getfixturevalue("podman")
    refs = {tag: images.image_ref(tag) for tag in images.TAGS}

    def make_network(name: str) -> None:
        if name not in engine.podman("network", "ls", "--format", "{{.Name}}").split():
            engine.podman("network", "create", name)

    return Rig("podman", lambda instance: DockerDriver(instance, engine.host), refs, make_network)


def oci_rig(request: pytest.FixtureRequest, runtime: str | None = None) -> Rig:
    folder = request.getfixturevalue("tmp_path_factory").mktemp("oci")
    refs = {tag: images.image_ref(tag) for tag in images.TAGS}

    def make_network(name: str) -> None:
        if not Path("/run/netns", name).exists():
            address = "link add eth0 type veth peer name peer0", "addr add 192.0.2.77/32 dev eth0", "link set eth0 up"
            subprocess.run(["ip", "netns", "add", name], check=True)
            for line in address:
                subprocess.run(["ip", "-n", name, *line.split()], check=True)
            request.addfinalizer(lambda: subprocess.run(["ip", "netns", "del", name], check=True))

    return Rig("oci", lambda instance: OciDriver(folder, instance, runtime), refs, make_network)


RIGS: dict[str, Callable[[pytest.FixtureRequest], Rig]] = {
    "fake": fake_rig,
    "docker": docker_rig,
    "podman": podman_rig,
    "oci": oci_rig,
}
