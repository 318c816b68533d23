"""From a driver's name to the driver, and what `auto` picks. Called by `server` and `doctor`.

Drivers are imported only when asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oneoff.drivers.driver import Driver, NodeFacts
from oneoff.errors import DriverUnavailable, SettingsInvalid

NAMES = ("auto", "docker", "oci")


@dataclass(frozen=True, slots=True)
class DriverChoice:
    """What the operator set. `instance` marks everything the driver makes; `data_dir` is the server's."""

    name: str  # one of NAMES
    instance: str
    data_dir: Path
    docker_host: str | None = None
    oci_runtime: str | None = None


def make_driver(name: str, choice: DriverChoice) -> Driver:
    """The driver of that name, `auto` excepted."""
    if name == "docker":
        from oneoff.drivers.docker.driver import DockerDriver

        return DockerDriver(choice.instance, choice.docker_host)
    if name == "oci":
        from oneoff.drivers.oci.driver import OciDriver

        return OciDriver(choice.data_dir, choice.instance, choice.oci_runtime)
    raise SettingsInvalid([f"driver {name!r} is unknown: use one of {', '.join(NAMES)}"])


async def open_driver(choice: DriverChoice) -> tuple[Driver, NodeFacts]:
    """A driver that was checked, and what it said. Raises DriverUnavailable with every reason and its mend.

    `auto` takes Docker if its socket answers (DOCKER_HOST, else the default one), else oci if it can work here.
    """
    refused: list[str] = []
    for candidate in ("docker", "oci") if choice.name == "auto" else (choice.name,):
        driver: Driver | None = None
        try:
            driver = make_driver(candidate, choice)
            return driver, await driver.check()
        except DriverUnavailable as error:
            if driver is not None:
                await driver.close()
            if choice.name != "auto":
                raise
            refused.append(f"{candidate}: {error}")
    raise DriverUnavailable("no container driver can work here.\n  " + "\n  ".join(refused))
