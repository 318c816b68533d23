"""Images of the oci driver: fetched by skopeo, unpacked by umoci, once per digest. Used by the driver.

images/sha256-HEX/rootfs      shared read-only below every container's own layer
                  image.json  configuration and size
       .staging-…             in the making, locked by who makes it; a name is given only to what is complete
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from oneoff import metrics
from oneoff.core.image import ImageConfig, ImageRef, Transport
from oneoff.drivers.driver import PreparedImage, RegistryCredentials
from oneoff.drivers.oci import linux
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
        self._folder = folder
        self._state = state
        self._going: dict[str, asyncio.Task[PreparedImage]] = {}

    def rootfs(self, digest: str) -> Path:
        return self._home(digest) / "rootfs"

    def has(self, digest: str) -> bool:
        return (self._home(digest) / "image.json").exists()

    def touch(self, digest: str) -> None:
        """Note its use: the images used longest ago are dropped first."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._home(digest) / "image.json")

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
            return await self._resolve(image, options)

    async def drop(self, keep: frozenset[str], budget_bytes: int) -> list[str]:
        return await asyncio.to_thread(self._drop, keep, budget_bytes)

    def sweep(self) -> None:
        """Remove what crashed makers left; what is still being made is locked."""
        for staging in self._folder.glob(".staging-*"):
            if staging.suffix == ".lock":
                if not staging.with_suffix("").exists() and _is_unlocked(staging):
                    staging.unlink(missing_ok=True)
            elif _is_unlocked(Path(f"{staging}.lock")):
                shutil.rmtree(staging, ignore_errors=True)
                Path(f"{staging}.lock").unlink(missing_ok=True)

    def _home(self, digest: str) -> Path:
        return self._folder / digest.replace(":", "-")

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
            digest = image.digest if image.transport is Transport.REGISTRY else None
            digest = digest or await self._resolve(image, options)
            if not self.has(digest):
                with metrics.IMAGE_PULL_SECONDS.time():
                    await self._fetch(image, digest, options)
        return self._prepared(image, digest)

    def _prepared(self, image: ImageRef, digest: str) -> PreparedImage:
        self.touch(digest)
        facts = json.loads((self._home(digest) / "image.json").read_bytes())
        own = f"oci:{_OWN}{self._home(digest).name}:{_TAG}"
        ref = str(image.pinned(digest)) if image.transport is Transport.REGISTRY else own
        return PreparedImage(digest, ref, to_image_config(facts["config"]))

    async def _resolve(self, image: ImageRef, options: list[str]) -> str:
        if image.transport in {Transport.DOCKER_ARCHIVE, Transport.DOCKER_DAEMON}:
            raw = await self._skopeo(image, "inspect", *options, "--config", "--raw", to_skopeo_name(image))
            return f"sha256:{hashlib.sha256(raw).hexdigest()}"
        raw = await self._skopeo(image, "inspect", *options, "--raw", to_skopeo_name(image))
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"

    async def _fetch(self, image: ImageRef, digest: str, options: list[str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        staging = self._folder / f".staging-{os.urandom(8).hex()}"
        # Before the folder: a sweep removes a folder without a lock.
        lock = os.open(f"{staging}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        staging.mkdir(mode=0o700)
        try:
            await self._unpack(image, digest, options, staging)
        except OSError as problem:
            raise ImageUnavailable(str(image), f"it cannot be unpacked: {problem}") from problem
        finally:
            # Removing a large tree takes its time.
            await asyncio.shield(asyncio.to_thread(_discard, staging, lock))

    async def _unpack(self, image: ImageRef, digest: str, options: list[str], staging: Path) -> None:
        layout = f"{staging}/layout:{_TAG}"
        source = to_skopeo_name(image.pinned(digest) if image.transport is Transport.REGISTRY else image)
        options = [_COPY_OPTIONS.get(option, option) for option in options]
        # umoci 0.4 refuses zstd: "blob is not correct mediatype: …tar+zstd".
        await self._skopeo(
            image, "copy", "--quiet", *options, "--dest-compress-format", "gzip", source, f"oci:{layout}"
        )
        config = await self._skopeo(image, "inspect", "--config", "--raw", f"oci:{layout}")
        home = staging / "home"
        home.mkdir(mode=0o700)
        await self._call(image, "umoci", "raw", "unpack", "--image", layout, str(home / "rootfs"))
        size = await asyncio.to_thread(_tree_bytes, home)
        facts = {
            "digest": digest,
            "source": str(image),
            "config": json.loads(config).get("config") or {},
            "bytes": size,
        }
        (home / "image.json").write_text(json.dumps(facts))
        await asyncio.to_thread(_make_durable, home)
        try:
            home.rename(self._home(digest))
        except OSError:
            # Another process was first; the content is the same by its digest.
            if not self.has(digest):
                raise

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

    def _drop(self, keep: frozenset[str], budget_bytes: int) -> list[str]:
        found: list[tuple[float, int, str, Path]] = []
        for path in self._folder.glob("sha256-*/image.json"):
            facts = json.loads(path.read_bytes())
            found.append((path.stat().st_mtime, facts["bytes"], facts["digest"], path.parent))
        total = sum(size for _, size, _, _ in found)
        dropped: list[str] = []
        for _, size, digest, home in sorted(found):
            if total <= budget_bytes:
                break
            if digest in keep:
                continue
            # Out of its name first: an image is there as a whole or not at all.
            trash = Path(tempfile.mkdtemp(prefix=".staging-", dir=self._folder))
            home.rename(trash / "home")
            shutil.rmtree(trash, ignore_errors=True)
            dropped.append(digest)
            total -= size
        return dropped


def to_plain_words(words: str) -> str:
    """What skopeo and umoci said, without their logging: `time="…" level=fatal msg="…"` becomes its last message."""
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


def _is_unlocked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def _discard(staging: Path, lock: int) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    Path(f"{staging}.lock").unlink(missing_ok=True)
    os.close(lock)


def _tree_bytes(root: Path) -> int:
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{folder}/{name}").st_blocks * 512
    return total


def _make_durable(home: Path) -> None:
    """One sync of the file system: a name must not survive a power failure without its content."""
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        linux.sync_file_system(fd)
    finally:
        os.close(fd)
