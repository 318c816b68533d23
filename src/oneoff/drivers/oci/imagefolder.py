"""The folder of unpacked images: what lies where, what is being made, what goes. Used by `image`, in threads.

sha256-DIGEST/image.json       configuration, and `layers`: names in this folder, from the highest down
              0, 1, …          links to the trees of its layers, from the lowest up
              rootfs           instead, in images of Oneoff 0.1.0: all layers in one tree
layers/sha256-CHAIN/tree       what the layer changes on top of those below it, as overlayfs has it
                    layer.json its size
.staging-…                     in the making, or going; locked by who makes it
          /layout              what skopeo copied
          /home                the image
          /layers              its layers: links to those that are there, folders of the new ones
.lock                          held to claim layers, to give names and to remove what has one

A name is given only to what is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneoff.drivers.oci import linux
from oneoff.drivers.oci.folder import lock_state
from oneoff.drivers.oci.rootfs import Root

IMAGE, LAYER = "image.json", "layer.json"
LAYOUT, HOME, LAYERS, TREE = "layout", "home", "layers", "tree"
_STAGING = ".staging-"
_OLD_LAYERS = ("rootfs",)


@dataclass(frozen=True, slots=True)
class Staging:
    """Where an image is made; nobody removes it while `lock` is open."""

    folder: Path
    lock: int


@dataclass(frozen=True, slots=True, order=True)
class _Image:
    """One that is there; `bytes` are those that are in no layer of their own."""

    used_at: float
    digest: str
    home: Path
    layers: frozenset[str]
    bytes: int


class ImageFolder:
    """Several servers may work on one folder at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def home(self, digest: str) -> Path:
        return self._folder / to_name(digest)

    def has(self, digest: str) -> bool:
        return (self.home(digest) / IMAGE).exists()

    def has_layers(self) -> bool:
        return any((self._folder / LAYERS).glob("*"))

    def facts(self, digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home(digest) / IMAGE).read_bytes())
        return found

    def root(self, digest: str) -> Root:
        return Root(self.home(digest), tuple(self.facts(digest).get("layers", _OLD_LAYERS)))

    def touch(self, digest: str) -> None:
        """Note its use: the images used longest ago are dropped first."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.home(digest) / IMAGE)

    def begin(self) -> Staging:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        linux.spread_folders(str(self._folder))
        folder = self._folder / f"{_STAGING}{os.urandom(8).hex()}"
        # A sweep removes a folder without a lock, and a lock without a folder.
        with self._lock():
            lock = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            for made in (folder, folder / HOME, folder / LAYERS):
                made.mkdir(mode=0o700)
        return Staging(folder, lock)

    def claim(self, staging: Staging, chain_ids: Sequence[str]) -> list[bool]:
        """Which of these layers are there; they stay at least as long as `staging`."""
        claimed = [staging.folder / LAYERS / to_name(chain_id) for chain_id in chain_ids]
        with self._lock():
            for path in claimed:
                if not path.is_symlink() and (self._folder / LAYERS / path.name).exists():
                    path.symlink_to(f"../../{LAYERS}/{path.name}")
        return [path.is_symlink() for path in claimed]

    def complete(self, staging: Staging, digest: str, facts: dict[str, Any]) -> None:
        """Whatever gets a name afterwards survives a power failure with its content."""
        (staging.folder / HOME / IMAGE).write_text(json.dumps({"digest": digest, **facts}))
        fd = os.open(staging.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            linux.sync_file_system(fd)
        finally:
            os.close(fd)

    def publish(self, staging: Staging, digest: str) -> None:
        """Give the new layers and the image their names. Not in a thread: `discard` must not come in between."""
        # Whoever drops images must not see the layers without the image: they would be nobody's.
        with self._lock():
            (self._folder / LAYERS).mkdir(exist_ok=True, mode=0o700)
            for layer in (staging.folder / LAYERS).iterdir():
                if not layer.is_symlink():
                    _rename_unless_there(layer, self._folder / LAYERS / layer.name)
            _rename_unless_there(staging.folder / HOME, self.home(digest))

    def discard(self, staging: Staging) -> None:
        shutil.rmtree(staging.folder, ignore_errors=True)
        Path(f"{staging.folder}.lock").unlink(missing_ok=True)
        os.close(staging.lock)

    def sweep(self) -> None:
        """Remove what crashed makers left, and what was dropped; what is still being made is locked."""
        dead: list[Path] = []
        with self._lock():
            for staging in self._folder.glob(f"{_STAGING}*"):
                if staging.suffix == ".lock":
                    if not staging.with_suffix("").exists() and _is_unlocked(staging):
                        staging.unlink(missing_ok=True)
                elif _is_unlocked(Path(f"{staging}.lock")):
                    dead.append(staging)
        for staging in dead:
            shutil.rmtree(staging, ignore_errors=True)
            Path(f"{staging}.lock").unlink(missing_ok=True)

    def drop(self, keep: frozenset[str], budget_bytes: int) -> list[str]:
        """As `Driver.drop_images` says. A layer counts once, and goes with the last image that has it."""
        self.sweep()
        with self._lock():
            dropped = self._move_out(keep, budget_bytes)
        self.sweep()
        return dropped

    def _move_out(self, keep: frozenset[str], budget_bytes: int) -> list[str]:
        images = sorted(self._images())
        users = Counter(layer for image in images for layer in image.layers)
        users.update(path.name for path in self._folder.glob(f"{_STAGING}*/{LAYERS}/*"))
        sizes = {path.parent.name: _layer_bytes(path) for path in self._folder.glob(f"{LAYERS}/*/{LAYER}")}
        # Who made them, or dropped their image, was killed meanwhile.
        for layer in sizes.keys() - users.keys():
            self._give_up(self._folder / LAYERS / layer)
            del sizes[layer]
        total = sum(image.bytes for image in images) + sum(sizes.values())
        dropped: list[str] = []
        for image in images:
            if total <= budget_bytes:
                break
            if image.digest in keep:
                continue
            # The image first: it is there with all its layers, or not at all.
            self._give_up(image.home)
            dropped.append(image.digest)
            total -= image.bytes
            users.subtract(image.layers)
            for layer in image.layers:
                if not users[layer]:
                    self._give_up(self._folder / LAYERS / layer)
                    total -= sizes[layer]
        return dropped

    def _give_up(self, path: Path) -> None:
        """Without a lock it is the next sweep's. Takes no room: the disk may be full."""
        path.rename(self._folder / f"{_STAGING}{os.urandom(8).hex()}")

    def _images(self) -> Iterator[_Image]:
        for path in self._folder.glob(f"sha256-*/{IMAGE}"):
            facts, home = json.loads(path.read_bytes()), path.parent
            links = (home / name for name in facts.get("layers", ()))
            layers = frozenset(link.readlink().parent.name for link in links if link.is_symlink())
            yield _Image(path.stat().st_mtime, facts["digest"], home, layers, facts.get("bytes", 0))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def to_name(digest: str) -> str:
    """Overlayfs reads a ':' in a path as the end of it."""
    return digest.replace(":", "-")


def _layer_bytes(path: Path) -> int:
    return int(json.loads(path.read_bytes())["bytes"])


def _rename_unless_there(made: Path, name: Path) -> None:
    try:
        made.rename(name)
    except OSError:
        # Another maker was first; the content is the same by its digest.
        if not name.exists():
            raise


def _is_unlocked(path: Path) -> bool:
    return lock_state(str(path)) != "held"
