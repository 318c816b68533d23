"""From a driver's name to the driver, and what `auto` picks. Called by `server` and `doctor`.

Drivers are imported only when asked for.
"""

from __future__ import annotations

from pathlib import Path

from oneoff.drivers.driver import Driver, NodeFacts
from oneoff.errors import DriverUnavailable, SettingsInvalid

NAMES = ("auto", "docker", "oci")


def make_driver(name: str, instance: str, data_dir: Path) -> Driver:
    """The driver of that name, `auto` excepted. `instance` marks everything it makes; `data_dir` is the server's."""
    if name == "docker":
        from oneoff.drivers.docker.driver import DockerDriver

        return DockerDriver(instance)
    if name == "oci":
        from oneoff.drivers.oci.driver import OciDriver

        return OciDriver(data_dir, instance)
    raise SettingsInvalid([f"driver {name!r} is unknown: use one of {', '.join(NAMES)}"])


async def open_driver(name: str, instance: str, data_dir: Path) -> tuple[Driver, NodeFacts]:
    """A driver that was checked, and what it said. Raises DriverUnavailable with every reason and its mend.

    `auto` takes Docker if its socket answers (DOCKER_HOST, else the default one), else oci if it can work here.
    """
    refused: list[str] = []
    for candidate in ("docker", "oci") if name == "auto" else (name,):
        driver: Driver | None = None
        try:
            driver = make_driver(candidate, instance, data_dir)
            return driver, await driver.check()
        except DriverUnavailable as error:
            if driver is not None:
                await driver.close()
            if name != "auto":
                raise
            refused.append(f"{candidate}: {error}")
    raise DriverUnavailable("no container driver can work here.\n  " + "\n  ".join(refused))
