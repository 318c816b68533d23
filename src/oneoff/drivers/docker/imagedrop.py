"""Drops images that Oneoff brought into the engine and nobody needs any more. Called by `driver` for the janitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oneoff.drivers.docker.client import Call, Engine, Refusals
from oneoff.drivers.docker.images import ImageStore, is_own_name
from oneoff.errors import ContainerBusy, ContainerGone, DriverError, EngineUnavailable


@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image with at least one of our tags. `bytes_freed` is 0 when somebody else's tag keeps it anyway."""

    engine_id: str
    own_names: tuple[str, ...]
    digest_names: tuple[str, ...]  # NAME@sha256:…, as our pull left it; none when the image is somebody else's too
    last_use: str  # RFC 3339 in UTC: sorts as text
    bytes_freed: int

    @property
    def digests(self) -> frozenset[str]:
        """As `PreparedImage.digest` called it; one image can have come in several ways."""
        return frozenset(name.rpartition(":")[2].replace("-", ":", 1) for name in self.own_names)


async def drop_images(engine: Engine, images: ImageStore, keep: frozenset[str], budget_bytes: int) -> list[str]:
    """As `Driver.drop_images` says."""
    ours = await _list_own(engine, images)
    in_use = {item["ImageID"] for item in await engine.send(Call("GET", "/containers/json", params={"all": "1"})) or []}
    left = sum(image.bytes_freed for image in ours)
    dropped: list[str] = []
    for image in sorted(ours, key=lambda image: image.last_use):
        if left <= budget_bytes:
            break
        if image.digests & keep or _bare(image.engine_id) in {_bare(used) for used in in_use}:
            continue
        if await _remove(engine, image):
            left -= image.bytes_freed
            dropped += sorted(image.digests)
    return dropped


async def _list_own(engine: Engine, images: ImageStore) -> list[OwnImage]:
    found: dict[str, OwnImage] = {}
    for listed in await engine.send(Call("GET", "/images/json")) or []:
        own = [name for name in listed.get("RepoTags") or [] if is_own_name(name)]
        if own and (inspected := await images.inspect(own[0])) is not None:
            found[inspected["Id"]] = to_own_image(inspected)
    return list(found.values())


def to_own_image(inspected: dict[str, Any]) -> OwnImage:
    """From the JSON of GET /images/NAME/json."""
    tags = inspected.get("RepoTags") or []
    is_only_ours = all(is_own_name(tag) for tag in tags)
    return OwnImage(
        engine_id=inspected["Id"],
        own_names=tuple(tag for tag in tags if is_own_name(tag)),
        digest_names=tuple(inspected.get("RepoDigests") or ()) if is_only_ours else (),
        last_use=(inspected.get("Metadata") or {}).get("LastTagTime") or inspected.get("Created") or "",
        bytes_freed=int(inspected.get("Size") or 0) if is_only_ours else 0,
    )


async def _remove(engine: Engine, image: OwnImage) -> bool:
    """Our tags go last: while one is there, a removal that was interrupted is taken up again next time."""
    refusals: Refusals = {404: ContainerGone, 409: ContainerBusy, 500: _failed}
    for name in (*image.digest_names, *image.own_names):
        try:
            await engine.send(Call("DELETE", f"/images/{name}", refusals=refusals))
        except ContainerGone:
            continue
        except ContainerBusy:
            return False
    return True


def _failed(words: str) -> DriverError:
    """Podman lists names that it made up from every digest it ever met the image under: "tag not known"."""
    return ContainerGone(words) if "tag not known" in words else EngineUnavailable("an image was not removed", words)


def _bare(engine_id: str) -> str:
    return engine_id.removeprefix("sha256:")
