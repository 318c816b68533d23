"""Images in the engine: making them local and pinning them by digest. Called by `driver`.

What Oneoff brings gets a tag of ours that holds the digest, `localhost/oneoff/KIND:sha256-HEX`. So it outlives its
source, it is found again without any memory, and `imagedrop` never touches other people's images. The moment of
tagging is the last use.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from oneoff import metrics
from oneoff.core.image import ImageRef, Transport
from oneoff.drivers.docker import archive
from oneoff.drivers.docker.client import OTHERWISE, Call, Engine, Refusals
from oneoff.drivers.docker.convert import to_image_config
from oneoff.drivers.docker.credentials import find_credentials, to_auth_header
from oneoff.drivers.driver import PreparedImage, RegistryCredentials
from oneoff.errors import ContainerGone, DriverError, EngineUnavailable, ImageUnavailable

OURS = "localhost/oneoff/"
_KINDS = {Transport.OCI: "layout", Transport.DOCKER_ARCHIVE: "archive", Transport.DOCKER_DAEMON: "daemon"}
_PULLED = "pulled"
_MARK_USE_EVERY_SECONDS = 3600.0
_CHUNK = 1 << 20


class ImageStore:
    """The images of one engine. Calls for the same image share the work."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._going: dict[object, asyncio.Task[PreparedImage]] = {}
        self._marked: dict[str, float] = {}

    async def prepare(self, image: ImageRef, credentials: RegistryCredentials | None) -> PreparedImage:
        key = (image, credentials)
        task = self._going.get(key)
        if task is None:
            task = self._going[key] = asyncio.create_task(self._prepare(image, credentials))
            task.add_done_callback(lambda done: self._forget(key, done))
        # One caller giving up must not take the image from the others.
        return await asyncio.shield(task)

    async def resolve(self, image: ImageRef, credentials: RegistryCredentials | None) -> str:
        """The digest `image` has now."""
        if image.transport is Transport.DOCKER_DAEMON:
            return to_own_digest(image) or str((await self._inspect_or_raise(image, _daemon_name(image)))["Id"])
        if image.transport is not Transport.REGISTRY:
            return await asyncio.to_thread(archive.read_digest, image)
        if image.digest:
            return image.digest
        if (await self._engine.version()).is_podman:
            # It has no /distribution: only a pull tells.
            return (await self.prepare(image, credentials)).digest
        headers = to_auth_header(credentials or find_credentials(image))
        path = f"/distribution/{image}/json"
        try:
            answer = await self._engine.send(Call("GET", path, headers=headers, refusals=_unavailable(image)))
        except ImageUnavailable as error:
            raise await self._with_hint(image, error) from error
        return str(answer["Descriptor"]["digest"])

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """The engine's words about an image; None when it is not there."""
        refusals: Refusals = {404: ContainerGone}
        try:
            answer: dict[str, Any] = await self._engine.send(Call("GET", f"/images/{name}/json", refusals=refusals))
        except ContainerGone:
            return None
        return answer

    async def tag(self, name: str, own: str) -> None:
        """Give `name` our tag, or renew it: the engine notes the time."""
        repository, _, tag = own.rpartition(":")
        await self._engine.act(Call("POST", f"/images/{name}/tag", params={"repo": repository, "tag": tag}))
        self._marked[own] = time.monotonic()

    def _forget(self, key: object, done: asyncio.Task[PreparedImage]) -> None:
        self._going.pop(key, None)
        if not done.cancelled():
            # Whoever waited has had it; without this line Python complains when nobody did.
            done.exception()

    async def _prepare(self, image: ImageRef, credentials: RegistryCredentials | None) -> PreparedImage:
        if image.transport is Transport.REGISTRY:
            return await self._prepare_registry(image, credentials)
        if image.transport is Transport.DOCKER_DAEMON:
            return await self._prepare_daemon(image)
        digest = await asyncio.to_thread(archive.read_digest, image)
        own = own_name(_KINDS[image.transport], digest)
        found = await self.inspect(own)
        if found is None:
            await self._load(image, own)
            found = await self._inspect_or_raise(image, own)
        return await self._to_prepared(found, digest, own)

    async def _prepare_daemon(self, image: ImageRef) -> PreparedImage:
        name = _daemon_name(image)
        found = await self._inspect_or_raise(image, name)
        digest = to_own_digest(image)
        if digest is not None:
            return await self._to_prepared(found, digest, name)
        own = own_name(_KINDS[image.transport], found["Id"])
        if own not in self._marked:
            await self.tag(found["Id"], own)
        return await self._to_prepared(found, found["Id"], own)

    async def _prepare_registry(self, image: ImageRef, credentials: RegistryCredentials | None) -> PreparedImage:
        credentials = credentials or find_credentials(image)
        if image.digest is None and (await self._engine.version()).is_podman:
            return await self._pull_unresolved(image, credentials)
        digest = await self.resolve(image, credentials)
        pinned = image.pinned(digest)
        own = own_name(_PULLED, digest)
        found = await self.inspect(str(pinned))
        if found is None:
            await self._pull(pinned, credentials)
            found = await self._inspect_or_raise(image, str(pinned))
            await self.tag(found["Id"], own)
        await self._mark_use(found, own)
        return PreparedImage(digest, str(pinned), to_image_config(found))

    async def _pull_unresolved(self, image: ImageRef, credentials: RegistryCredentials | None) -> PreparedImage:
        before = await self.inspect(str(image))
        await self._pull(image, credentials)
        found = await self._inspect_or_raise(image, str(image))
        digest = await self._digest_in_registry(image, found, credentials)
        pinned = image.pinned(digest)
        if before is None or before["Id"] != found["Id"]:
            await self.tag(found["Id"], own_name(_PULLED, digest))
        if before is None:
            # The tag came only to learn the digest; left alone it would look like somebody else's.
            await self._engine.send(Call("DELETE", f"/images/{image}", refusals={404: ContainerGone}))
        return PreparedImage(digest, str(pinned), to_image_config(found))

    async def _digest_in_registry(
        self, image: ImageRef, found: dict[str, Any], credentials: RegistryCredentials | None
    ) -> str:
        """Podman gives a name all digests under which it ever met the image, also those of archives and layouts. The
        registry's is the one that can be pulled."""
        known = [ref.rpartition("@") for ref in found.get("RepoDigests") or []]
        for digest in [digest for name, _, digest in known if name == image.name]:
            with contextlib.suppress(ImageUnavailable):
                await self._pull(image.pinned(digest), credentials)
                return str(digest)
        raise ImageUnavailable(str(image), "the engine pulled it and does not tell its digest")

    async def _to_prepared(self, found: dict[str, Any], digest: str, own: str) -> PreparedImage:
        await self._mark_use(found, own)
        return PreparedImage(digest, f"docker-daemon:{own}", to_image_config(found))

    async def _mark_use(self, found: dict[str, Any], own: str) -> None:
        stale = time.monotonic() - self._marked.get(own, -_MARK_USE_EVERY_SECONDS) >= _MARK_USE_EVERY_SECONDS
        if stale and own in (found.get("RepoTags") or []):
            await self.tag(own, own)

    async def _inspect_or_raise(self, image: ImageRef, name: str) -> dict[str, Any]:
        found = await self.inspect(name)
        if found is None:
            raise ImageUnavailable(str(image), f"the engine has no image {name}")
        return found

    async def _with_hint(self, image: ImageRef, error: ImageUnavailable) -> ImageUnavailable:
        if await self.inspect(str(image)) is None:
            return error
        hint = f"the engine itself has an image of this name: write docker-daemon:{image} if you mean that one"
        return ImageUnavailable(str(image), f"{error.detail}; {hint}")

    async def _load(self, image: ImageRef, own: str) -> None:
        with tempfile.TemporaryDirectory(prefix="oneoff-load-") as folder:
            target = Path(folder) / "image.tar"
            await archive.write_loadable(image, own, target)
            headers = {"Content-Type": "application/x-tar", "Content-Length": str(target.stat().st_size)}
            call = Call(
                *("POST", "/images/load"),
                params={"quiet": "1"},
                body=_read_chunks(target),
                headers=headers,
                refusals=_unavailable(image),
                read_seconds=None,
            )
            with metrics.IMAGE_PULL_SECONDS.time():
                await self._consume(image, call)

    async def _pull(self, image: ImageRef, credentials: RegistryCredentials | None) -> None:
        path, params = "/images/create", {"fromImage": image.name, "tag": image.digest or image.tag or "latest"}
        is_podman = (await self._engine.version()).is_podman
        if is_podman and is_loopback(image.registry):
            # Docker takes plain HTTP from loopback registries by itself; Podman's own endpoint must be told.
            path, params = "/v4.0.0/libpod/images/pull", {"reference": str(image), "tlsVerify": "false"}
        call = Call(
            *("POST", path),
            params=params,
            headers=to_auth_header(credentials),
            refusals=_unavailable(image),
            read_seconds=None,
            versioned=not path.startswith("/v"),
        )
        with metrics.IMAGE_PULL_SECONDS.time():
            await self._consume(image, call)

    async def _consume(self, image: ImageRef, call: Call) -> None:
        """Read a progress stream to its end: the status was 200 long before the engine knew whether it works."""
        rest = b""
        async with self._engine.stream(call) as answer:
            async for data in answer.blocks():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    _raise_if_error(image, line)
        _raise_if_error(image, rest)


def own_name(kind: str, digest: str) -> str:
    return f"{OURS}{kind}:{digest.replace(':', '-')}"


def to_own_digest(image: ImageRef) -> str | None:
    """The digest an image of ours was prepared with; None for other names."""
    if not image.name.startswith(OURS) or image.tag is None or not image.tag.startswith("sha256-"):
        return None
    return image.tag.replace("-", ":", 1)


def is_own_name(name: str) -> bool:
    return name.startswith(OURS) and ":sha256-" in name


def is_loopback(registry: str | None) -> bool:
    host = (registry or "").rpartition(":")[0] or (registry or "")
    return host == "localhost" or host.startswith("127.") or host == "[::1]"


def _daemon_name(image: ImageRef) -> str:
    return str(image).removeprefix("docker-daemon:")


def _unavailable(image: ImageRef) -> Refusals:
    def to_error(words: str) -> DriverError:
        return ImageUnavailable(str(image), words)

    return {OTHERWISE: to_error}


def _raise_if_error(image: ImageRef, line: bytes) -> None:
    if not line.strip():
        return
    try:
        said = json.loads(line)
    except ValueError as error:
        raise EngineUnavailable(
            "the engine's progress report is not JSON", line[:200].decode("utf-8", "replace")
        ) from error
    if said.get("error"):
        raise ImageUnavailable(str(image), str(said["error"]))


async def _read_chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, _CHUNK):
            yield data
