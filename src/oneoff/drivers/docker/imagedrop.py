"""Drops images that Oneoff brought into the engine and nobody needs any more. Called by `driver` for the janitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oneoff.drivers.docker.client import Call, Engine, Refusals
from oneoff.drivers.docker.images import ImageStore, is_own_name
from oneoff.errors import ContainerBusy, ContainerGone


@dataclass(frozen=True, slots=True)
class OwnImage:
    """One of our tags. `bytes_freed` is 0 when somebody else's tag keeps the image anyway."""

    name: str
    digest: str
    engine_id: str
    last_use: str  # RFC 3339 in UTC: sorts as text
    bytes_freed: int
    other_refs: tuple[str, ...]  # digest references that came with our pull


async def drop_images(engine: Engine, images: ImageStore, keep: frozenset[str], budget_bytes: int) -> list[str]:
    """As `Driver.drop_images` says."""
    ours = await _list_own(engine, images)
    in_use = {item["ImageID"] for item in await engine.send(Call("GET", "/containers/json", params={"all": "1"}))}
    left = sum({image.engine_id: image.bytes_freed for image in ours}.values())
    dropped: list[str] = []
    for image in sorted(ours, key=lambda image: image.last_use):
        if left <= budget_bytes:
            break
        if image.digest in keep or image.engine_id in in_use:
            continue
        if await _remove(engine, image):
            left -= image.bytes_freed
            dropped.append(image.digest)
    return dropped


async def _list_own(engine: Engine, images: ImageStore) -> list[OwnImage]:
    found: list[OwnImage] = []
    for listed in await engine.send(Call("GET", "/images/json")):
        for name in listed.get("RepoTags") or []:
            if is_own_name(name) and (inspected := await images.inspect(name)) is not None:
                found.append(to_own_image(name, inspected))
    return found


def to_own_image(name: str, inspected: dict[str, Any]) -> OwnImage:
    """From the JSON of GET /images/NAME/json."""
    foreign = [tag for tag in inspected.get("RepoTags") or [] if not is_own_name(tag)]
    last_tagged = (inspected.get("Metadata") or {}).get("LastTagTime") or inspected.get("Created") or ""
    return OwnImage(
        name=name,
        digest=name.rpartition(":")[2].replace("-", ":", 1),
        engine_id=inspected["Id"],
        last_use=last_tagged,
        bytes_freed=0 if foreign else int(inspected.get("Size") or 0),
        other_refs=() if foreign else tuple(inspected.get("RepoDigests") or ()),
    )


async def _remove(engine: Engine, image: OwnImage) -> bool:
    """Our tag goes last: while it is there, a removal that was interrupted is taken up again next time."""
    refusals: Refusals = {404: ContainerGone, 409: ContainerBusy}
    for name in (*image.other_refs, image.name):
        try:
            await engine.send(Call("DELETE", f"/images/{name}", refusals=refusals))
        except ContainerGone:
            continue
        except ContainerBusy:
            return False
    return True
