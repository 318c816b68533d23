"""Images of the oci driver: fetched by skopeo, each of their layers unpacked once and shared. Used by the driver.

The folder they lie in is `imagefolder`'s, and what is in a layer is `unpacking`'s.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from oneoff import metrics
from oneoff.core.image import ImageConfig, ImageRef, Transport
from oneoff.drivers.driver import PreparedImage, RegistryCredentials
from oneoff.drivers.oci import layout
from oneoff.drivers.oci.imagefolder import LAYOUT, ImageFolder, Staging, to_name
from oneoff.drivers.oci.layout import LayerBroken
from oneoff.drivers.oci.rootfs import Root
from oneoff.errors import ImageUnavailable

_TAG = "image"
_OWN = "@oneoff/"  # stands for the folder of this store in names of its images
_DOCKER_HUB = "docker.io"
_WORDS = 1500
# The same options are named otherwise where there is a destination, too.
_COPY_OPTIONS = {"--tls-verify=false": "--src-tls-verify=false", "--daemon-host": "--src-daemon-host"}


class ImageStore:
    """`state` is a folder on a tmpfs: registry credentials pass through it."""

    def __init__(self, folder: Path, state: Callable[[], Path]) -> None:
        self._folder = ImageFolder(folder)
        self._state = state
        self._going: dict[str, asyncio.Task[PreparedImage]] = {}

    def root(self, digest: str) -> Root:
        return self._folder.root(digest)

    def has(self, digest: str) -> bool:
        return self._folder.has(digest)

    def touch(self, digest: str) -> None:
        self._folder.touch(digest)

    async def prepare(self, image: ImageRef, credentials: RegistryCredentials | None) -> PreparedImage:
        key = str(image)
        task = self._going.get(key)
        if task is None:
            task = asyncio.ensure_future(self._prepare(image, credentials))
            self._going[key] = task
            task.add_done_callback(lambda _: self._going.pop(key, None))
        # One caller going away must not end the work of the others.
        return await asyncio.shield(task)

    async def resolve(self, image: ImageRef, credentials: RegistryCredentials | None) -> str:
        if own := self._own_digest(image):
            return own
        if image.digest and image.transport is Transport.REGISTRY:
            return image.digest
        async with self._access(image, credentials) as options:
            return _digest(await self._read_raw(image, options))

    async def drop(self, keep: frozenset[str], budget_bytes: int) -> list[str]:
        return await asyncio.to_thread(self._folder.drop, keep, budget_bytes)

    def sweep(self) -> None:
        self._folder.sweep()

    def _own_digest(self, image: ImageRef) -> str | None:
        """The digest of an image that is named as lying in this store, wherever the store lies by now."""
        if image.transport is Transport.OCI and image.name.startswith(_OWN):
            return image.name.removeprefix(_OWN).replace("-", ":", 1)
        return None

    async def _prepare(self, image: ImageRef, credentials: RegistryCredentials | None) -> PreparedImage:
        if own := self._own_digest(image):
            if not self.has(own):
                raise ImageUnavailable(str(image), "it was dropped from Oneoff's store; deploy it again")
            return self._prepared(image, own)
        if image.digest and image.transport is Transport.REGISTRY and self.has(image.digest):
            return self._prepared(image, image.digest)
        async with self._access(image, credentials) as options:
            digest, raw = image.digest if image.transport is Transport.REGISTRY else None, b""
            if not digest:
                raw = await self._read_raw(image, options)
                digest = _digest(raw)
            if not self.has(digest):
                with metrics.IMAGE_PULL_SECONDS.time():
                    await self._fetch(image, digest, raw, options)
        return self._prepared(image, digest)

    def _prepared(self, image: ImageRef, digest: str) -> PreparedImage:
        self.touch(digest)
        own = f"oci:{_OWN}{to_name(digest)}:{_TAG}"
        ref = str(image.pinned(digest)) if image.transport is Transport.REGISTRY else own
        return PreparedImage(digest, ref, to_image_config(self._folder.facts(digest)["config"]))

    async def _read_raw(self, image: ImageRef, options: list[str]) -> bytes:
        """What the image's digest is of: its manifest, or its configuration where Docker has it."""
        is_dockers = image.transport in {Transport.DOCKER_ARCHIVE, Transport.DOCKER_DAEMON}
        what = ("--config", "--raw") if is_dockers else ("--raw",)
        return await self._skopeo(image, "inspect", *options, *what, to_skopeo_name(image))

    async def _fetch(self, image: ImageRef, digest: str, raw: bytes, options: list[str]) -> None:
        staging = await asyncio.to_thread(self._folder.begin)
        try:
            await self._unpack(image, digest, raw, options, staging)
        except (OSError, LayerBroken) as problem:
            raise ImageUnavailable(str(image), f"it cannot be unpacked: {problem}") from problem
        finally:
            # Removing a large tree takes its time.
            await asyncio.shield(asyncio.to_thread(self._folder.discard, staging))

    async def _unpack(self, image: ImageRef, digest: str, raw: bytes, options: list[str], staging: Staging) -> None:
        source = to_skopeo_name(image.pinned(digest) if image.transport is Transport.REGISTRY else image)
        if image.transport in {Transport.REGISTRY, Transport.OCI} and self._folder.has_layers():
            try:
                await self._spare_layers(image, source, raw, options, staging)
            except ImageUnavailable as problem:
                # skopeo 1.4, as Ubuntu 22.04 has it, cannot leave out the tags. Then all layers are copied.
                if "unknown flag: --no-tags" not in str(problem):
                    raise
        copied = staging.folder / LAYOUT
        options = [_COPY_OPTIONS.get(option, option) for option in options]
        options += ["--remove-signatures", "--dest-oci-accept-uncompressed-layers"]
        await self._skopeo(image, "copy", "--quiet", *options, source, f"oci:{copied}:{_TAG}")
        found = layout.read_layout(copied)
        await asyncio.to_thread(self._folder.claim, staging, [each.chain_id for each in found.layers])
        unpack = (sys.executable, "-I", "-X", "utf8", "-m", "oneoff.drivers.oci.unpacking")
        await self._call(image, *unpack, str(staging.folder), str(os.getpid()))
        facts = {"source": str(image), "config": found.config.get("config") or {}, "layers": found.names}
        await asyncio.to_thread(self._folder.complete, staging, digest, facts)
        self._folder.publish(staging, digest)

    async def _spare_layers(
        self, image: ImageRef, source: str, raw: bytes, options: list[str], staging: Staging
    ) -> None:
        """Nothing that is unpacked already is copied again. Registries count how often a manifest is read, so one that
        was read already (`raw`) is not read again."""
        blobs = layout.to_blobs(raw)
        if blobs is None:
            blobs = json.loads(await self._skopeo(image, "inspect", *options, "--no-tags", source))["Layers"] or []
        config = await self._skopeo(image, "inspect", *options, "--config", "--raw", source)
        chain_ids = layout.to_chain_ids(layout.to_diff_ids(json.loads(config)))
        claimed = await asyncio.to_thread(self._folder.claim, staging, chain_ids)
        # The same blob may be there as one layer, and be wanted as another.
        wanted = {blob for blob, is_there in zip(blobs, claimed, strict=False) if not is_there}
        layout.write_stand_ins(staging.folder / LAYOUT, set(blobs) - wanted)

    @asynccontextmanager
    async def _access(self, image: ImageRef, credentials: RegistryCredentials | None) -> AsyncIterator[list[str]]:
        """skopeo's options for reading `image`; the credentials lie in a file for as long as it is needed."""
        if image.transport is not Transport.REGISTRY:
            host = os.environ.get("DOCKER_HOST") if image.transport is Transport.DOCKER_DAEMON else None
            yield ["--daemon-host", host] if host else []
            return
        registry = image.registry
        options = ["--tls-verify=false"] if registry and _is_loopback(registry) else []
        authfile: Path | None = None
        if credentials is not None:
            authfile = self._write_auth_file(to_auth_file(registry or _DOCKER_HUB, credentials))
        elif (Path.home() / ".docker/config.json").exists():
            options += ["--authfile", str(Path.home() / ".docker/config.json")]
        try:
            yield options if authfile is None else [*options, "--authfile", str(authfile)]
        finally:
            if authfile is not None:
                authfile.unlink(missing_ok=True)

    def _write_auth_file(self, content: dict[str, Any]) -> Path:
        fd, name = tempfile.mkstemp(prefix="auth-", dir=self._state())
        with open(fd, "w") as file:  # noqa: PTH123
            json.dump(content, file)
        return Path(name)

    async def _skopeo(self, image: ImageRef, *arguments: str) -> bytes:
        return await self._call(image, "skopeo", *arguments)

    async def _call(self, image: ImageRef, *argv: str) -> bytes:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as problem:
            raise ImageUnavailable(str(image), f"{argv[0]} cannot be started: {problem}") from problem
        try:
            output, words = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise ImageUnavailable(str(image), to_plain_words(words.decode(errors="replace"))[-_WORDS:])
        return output


def _digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def to_plain_words(words: str) -> str:
    """What skopeo said, without their logging: `time="…" level=fatal msg="…"` becomes its last message."""
    messages = re.findall(r'msg="((?:[^"\\]|\\.)*)"', words)
    plain = messages[-1].replace('\\"', '"') if messages else words.strip()
    return f"{plain}; if it needs a login, deploy with --registry-user" if "unauthorized" in plain else plain


def to_skopeo_name(image: ImageRef) -> str:
    """skopeo takes no tag beside a digest."""
    if image.transport is Transport.REGISTRY:
        return f"docker://{image.name}@{image.digest}" if image.digest else f"docker://{image}"
    if image.transport is Transport.DOCKER_DAEMON and image.name.startswith("sha256:"):
        return f"docker-daemon:{image.name}"
    return str(image)


def to_auth_file(registry: str, credentials: RegistryCredentials) -> dict[str, Any]:
    """containers-auth.json(5)."""
    pair = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    return {"auths": {registry: {"auth": pair}}}


def to_image_config(config: dict[str, Any]) -> ImageConfig:
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return ImageConfig(
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        variables={key: value for key, _, value in pairs},
        working_dir=config.get("WorkingDir") or "",
        user=config.get("User") or "",
    )


def _is_loopback(registry: str) -> bool:
    host = registry.rsplit(":", 1)[0].strip("[]")
    return host in {"localhost", "::1"} or host.startswith("127.")
