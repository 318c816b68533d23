"""Removes what a container leaves, and after a crash what nobody else will remove. Used by the driver, in threads.

Only what carries our instance's name is looked at. A run's folder is made first and removed last, so whatever belongs
to no folder is garbage.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from oneoff.drivers.oci import cgroup
from oneoff.drivers.oci.folder import RUN, read_json
from oneoff.drivers.oci.owner import Owner

NEW, TRASH = ".new-", ".trash-"
_NOT_BUNDLES = {"owners", "net"}


def clear(run: dict[str, Any]) -> None:
    """Kill what is left of the container and remove all but its folder. Safe to repeat."""
    cgroup.clear(run["cgroups"])
    for path in (run["bundle"], run["upper"], run["work"]):
        shutil.rmtree(path, ignore_errors=True)


def clear_and_discard(run: dict[str, Any], folder: Path) -> bool:
    """Both, as `remove` does them."""
    clear(run)
    return discard(folder)


def discard(folder: Path) -> bool:
    """Remove the folder; True for the one caller who took its name away."""
    trash = folder.parent / f"{TRASH}{os.urandom(8).hex()}"
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return False
    shutil.rmtree(trash, ignore_errors=True)
    return True


def leave_state(state: Path) -> None:
    """Remove the folders on the tmpfs that nobody uses."""
    for folder in (state / "owners", state / "net", state):
        with contextlib.suppress(OSError):
            folder.rmdir()


def runs(folder: Path) -> list[dict[str, Any]]:
    """Every container there is, in any state."""
    with contextlib.suppress(FileNotFoundError):
        names = [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
        return [run for name in names if (run := read_json(f"{folder}/{name}", RUN)) is not None]
    return []


def cgroup_name(instance: str, engine_id: str) -> str:
    return f"oneoff.{instance}.{engine_id}"


def sweep(runs_folder: Path, state: Path, instance: str, owner: Owner) -> None:
    """After a crash of server, zygote or supervisor."""
    bundles = {path.name: path for path in state.iterdir() if path.is_dir() and path.name not in _NOT_BUNDLES}
    found = cgroup.hierarchies()
    groups = _cgroups_of(instance, found)
    # Those being made are listed before those made: one that gets its name meanwhile is seen in either.
    known = _being_made(runs_folder, owner) | {run["engine_id"] for run in runs(runs_folder)}
    for engine_id in groups - known:
        paths = cgroup.folders(found, cgroup_name(instance, engine_id))
        cgroup.clear(paths)
    for engine_id in bundles.keys() - known:
        shutil.rmtree(bundles[engine_id], ignore_errors=True)
    for trash in runs_folder.glob(f"{TRASH}*"):
        shutil.rmtree(trash, ignore_errors=True)
    owner.forget_dead()


def _being_made(runs_folder: Path, owner: Owner) -> set[str]:
    """Engine ids of folders that have no name yet; those of dead makers are removed."""
    going = set()
    for path in runs_folder.glob(f"{NEW}*"):
        _, _, rest = path.name.partition(NEW)
        owner_id, _, engine_id = rest.partition("-")
        if owner.is_alive(owner_id):
            going.add(engine_id)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return going


def _cgroups_of(instance: str, found: Iterable[tuple[str, str]]) -> set[str]:
    prefix = cgroup_name(instance, "")
    names: set[str] = set()
    for _, mount in found:
        with contextlib.suppress(OSError):
            names |= {name.removeprefix(prefix) for name in os.listdir(mount) if name.startswith(prefix)}  # noqa: PTH208
    return names
