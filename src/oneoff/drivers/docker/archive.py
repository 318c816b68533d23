"""Images that lie in files: reads which content a name means, and turns it into an archive the engine can load.

Called by `images`. The only file of this driver that starts a process: `skopeo copy`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oneoff.core.image import ImageRef, Transport
from oneoff.errors import ImageUnavailable

_TAG_KEY = "org.opencontainers.image.ref.name"


def read_digest(image: ImageRef) -> str:
    """`sha256:…` of what the name means now: the manifest in a layout, the image id in a `docker save` archive.

    Blocking; raises ImageUnavailable.
    """
    try:
        return _layout_digest(image) if image.transport is Transport.OCI else _archive_id(image)
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise ImageUnavailable(str(image), f"{image.name} cannot be read: {error}") from error


async def write_loadable(image: ImageRef, name: str, target: Path) -> None:
    """Write `image` to `target` in the format of `docker save`, called `name` inside. Raises ImageUnavailable.

    Only our own name goes in: loading the archive as it is would move the tags it carries.
    """
    if shutil.which("skopeo") is None:
        raise ImageUnavailable(str(image), "skopeo is needed to copy it: apt-get install skopeo")
    source = str(image)
    if image.transport is Transport.OCI and await asyncio.to_thread(has_zstd_layers, image):
        # "zstd compression is not supported for docker images": skopeo must pack them again on the way.
        source = f"oci:{target}.layout:image"
        await _copy(image, "--dest-compress-format", "gzip", str(image), source)
    await _copy(image, source, f"docker-archive:{target}:{name}")


async def _copy(image: ImageRef, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("skopeo", "copy", "--quiet", "--insecure-policy", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, words = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ImageUnavailable(str(image), words.decode("utf-8", "replace").strip()[-2000:])


def has_zstd_layers(image: ImageRef) -> bool:
    """Of an image in a layout; blocking."""
    blobs = Path(image.name) / "blobs"
    try:
        text = (blobs / _layout_digest(image).replace(":", "/")).read_text()
        for nested in json.loads(text).get("manifests") or []:
            text += (blobs / nested["digest"].replace(":", "/")).read_text()
    except (OSError, ValueError, KeyError):
        # skopeo will say what is wrong with it.
        return False
    return "+zstd" in text


def _layout_digest(image: ImageRef) -> str:
    manifests = json.loads((Path(image.name) / "index.json").read_bytes())["manifests"]
    if image.tag is None and len(manifests) == 1:
        return str(manifests[0]["digest"])
    tags = [str((manifest.get("annotations") or {}).get(_TAG_KEY)) for manifest in manifests]
    if image.tag not in tags:
        raise ImageUnavailable(str(image), f"the layout has no tag {image.tag!r}; it has {', '.join(sorted(tags))}")
    return str(manifests[tags.index(image.tag)]["digest"])


def _archive_id(image: ImageRef) -> str:
    with tarfile.open(image.name) as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        entry = _choose(json.load(member), image)
        config = archive.extractfile(entry["Config"])
        assert config is not None
        return "sha256:" + hashlib.sha256(config.read()).hexdigest()


def _choose(manifest: list[Mapping[str, Any]], image: ImageRef) -> Mapping[str, Any]:
    if image.tag is None and len(manifest) == 1:
        return manifest[0]
    names = [name for entry in manifest for name in entry.get("RepoTags") or []]
    for entry in manifest:
        if image.tag in (entry.get("RepoTags") or []):
            return entry
    raise ImageUnavailable(str(image), f"the archive holds no image {image.tag!r}; it holds {', '.join(names)}")
