"""The OCI layout of one image that skopeo wrote: its configuration and its layers. Used by `image` and `unpacking`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DIFF_ID = re.compile("sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class LayerBroken(Exception):
    """A layer, or what names it, is not what it should be; the words say what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Layer:
    """`chain_id` is the identity of the layer together with all below it; `blob` may be compressed."""

    chain_id: str
    diff_id: str
    blob: Path


@dataclass(frozen=True, slots=True)
class Layout:
    """`layers` from the lowest up."""

    config: dict[str, Any]
    layers: tuple[Layer, ...]

    @property
    def names(self) -> list[str]:
        """What the layers are called in an image's folder, from the highest down; without any there is an empty one."""
        return [str(number) for number in reversed(range(len(self.layers) or 1))]


def read_layout(folder: Path) -> Layout:
    """Raises LayerBroken."""

    def blob(entry: dict[str, Any]) -> Path:
        return _blob(folder, entry["digest"])

    index = json.loads((folder / "index.json").read_bytes())
    manifest = json.loads(blob(index["manifests"][0]).read_bytes())
    config = json.loads(blob(manifest["config"]).read_bytes())
    diff_ids, blobs = to_diff_ids(config), manifest["layers"]
    if len(diff_ids) != len(blobs):
        raise LayerBroken(f"its manifest has {len(blobs)} layers, its configuration {len(diff_ids)}")
    parts = zip(to_chain_ids(diff_ids), diff_ids, map(blob, blobs), strict=True)
    return Layout(config, tuple(Layer(*each) for each in parts))


def to_blobs(manifest: bytes) -> list[str] | None:
    """The digests of its layers' blobs, from the lowest up; None for what has none, as the index of several images."""
    try:
        return [str(each["digest"]) for each in json.loads(manifest)["layers"]]
    except (ValueError, LookupError, TypeError):
        return None


def to_diff_ids(config: dict[str, Any]) -> list[str]:
    """Of each layer, from the lowest up: the digest of its archive, uncompressed. Raises LayerBroken."""
    rootfs = config.get("rootfs")
    if not isinstance(rootfs, dict):
        raise LayerBroken("its configuration names no layers: it is no image of a container")
    diff_ids = list(rootfs.get("diff_ids") or ())
    # They become names of folders: any other text could lead out of the store.
    for each in diff_ids:
        if not _DIFF_ID.fullmatch(str(each)):
            raise LayerBroken(f"{each!r} is no digest of a layer")
    return diff_ids


def to_chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """As the OCI image specification computes a ChainID: the tree of a layer depends on what lies below it."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(_digest(f"{chain[-1]} {diff_id}") if chain else diff_id)
    return chain


def write_stand_ins(folder: Path, digests: Iterable[str]) -> None:
    """Blobs that are there by name only: skopeo copies none that it finds."""
    for digest in digests:
        path = _blob(folder, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _blob(folder: Path, digest: str) -> Path:
    algorithm, _, number = digest.partition(":")
    if not (algorithm.isalnum() and number.isalnum()):
        raise LayerBroken(f"{digest!r} is no digest")
    return folder / "blobs" / algorithm / number
