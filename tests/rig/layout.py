"""Writes OCI image layouts and `docker save` archives in plain Python, the same bytes every time.

Called by `images`. Deterministic: no clock, no user names, entries in the order given.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Entry:
    """One file, folder (`data` is None), link (`link` given) or device (`device`: major, minor) of a layer."""

    path: str
    data: bytes | None = None
    mode: int = 0o755
    link: str | None = None
    hard: bool = False
    uid: int = 0
    device: tuple[int, int] | None = None
    pax: Mapping[str, str] = field(default_factory=dict)  # extended header records


@dataclass(frozen=True)
class Image:
    """What becomes a tag: layers from the lowest up, and the `config` object as in the OCI image specification."""

    layers: tuple[tuple[Entry, ...], ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    compression: str = "gzip"


def to_tar(entries: Iterable[Entry]) -> bytes:
    """An uncompressed layer."""
    entries = list(entries)
    buffer = io.BytesIO()
    form = tarfile.PAX_FORMAT if any(entry.pax for entry in entries) else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.uid
            info.pax_headers = dict(entry.pax)
            if entry.device is not None:
                info.type = tarfile.CHRTYPE
                info.devmajor, info.devminor = entry.device
                tar.addfile(info)
            elif entry.link is not None:
                info.type = tarfile.LNKTYPE if entry.hard else tarfile.SYMTYPE
                info.linkname = entry.link
                tar.addfile(info)
            elif entry.data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(entry.data)
                tar.addfile(info, io.BytesIO(entry.data))
    return buffer.getvalue()


def write_layout(folder: Path, images: Mapping[str, Image]) -> None:
    """An OCI layout folder with one tag per image."""
    (folder / "blobs" / "sha256").mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    manifests = []
    for tag, image in images.items():
        manifests.append(_write_image(folder, image) | {"annotations": {"org.opencontainers.image.ref.name": tag}})
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}
    (folder / "index.json").write_bytes(_json(index))


def write_docker_archive(path: Path, image: Image, repo_tag: str) -> None:
    """One image in the format of `docker save`."""
    layers = [to_tar(layer) for layer in image.layers]
    config = to_config(image, layers)
    names = [f"{digest_of(layer)[7:]}/layer.tar" for layer in layers]
    config_name = f"{digest_of(config)[7:]}.json"
    manifest = [{"Config": config_name, "RepoTags": [repo_tag], "Layers": names}]
    files = [Entry(config_name, config, 0o644)]
    files += [Entry(name, layer, 0o644) for name, layer in zip(names, layers, strict=True)]
    path.write_bytes(to_tar([*files, Entry("manifest.json", _json(manifest), 0o644)]))


def to_config(image: Image, layers: list[bytes]) -> bytes:
    """The image configuration; its digest is what Docker calls the image id."""
    return _json(
        {
            "created": "1970-01-01T00:00:00Z",
            "architecture": own_architecture(),
            "os": "linux",
            "config": dict(image.config),
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "test rig"} for _ in layers],
        }
    )


def own_architecture() -> str:
    """This machine's, as images name it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _write_image(folder: Path, image: Image) -> dict[str, Any]:
    layers = [to_tar(layer) for layer in image.layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _write_blob(folder, to_config(image, layers), _CONFIG),
        "layers": [
            _write_blob(folder, _compress(layer, image.compression), f"{_LAYER}+{image.compression}")
            for layer in layers
        ],
    }
    return _write_blob(folder, _json(manifest), _MANIFEST)


def _write_blob(folder: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = digest_of(data)
    (folder / "blobs" / "sha256" / digest[7:]).write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _compress(data: bytes, compression: str) -> bytes:
    return zstd.compress(data) if compression == "zstd" else gzip.compress(data, 6, mtime=0)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
