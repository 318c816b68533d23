"""How images are named, and what an image says about itself. Pure; used by the deploys, the drivers and the CLI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from oneoff.errors import InvalidImageRef

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# Reference grammar of the OCI distribution specification: path components of a repository name.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(
    rf"(?:(?P<host>[A-Za-z0-9.-]+(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?)/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
)


class Transport(StrEnum):
    """Where an image comes from, named as skopeo names it."""

    REGISTRY = "docker"
    OCI = "oci"
    DOCKER_ARCHIVE = "docker-archive"
    DOCKER_DAEMON = "docker-daemon"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A parsed image name. `name` is the repository (with its registry), folder, file or the daemon's reference."""

    transport: Transport
    name: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        prefix = "" if self.transport is Transport.REGISTRY else f"{self.transport.value}:"
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{prefix}{self.name}{tag}{digest}"

    @property
    def registry(self) -> str | None:
        """Host and port of the registry; None for the default registry and for other transports."""
        host, slash, _ = self.name.partition("/")
        return host if self.transport is Transport.REGISTRY and slash and _is_registry_host(host) else None

    def pinned(self, digest: str) -> ImageRef:
        """The same image by digest, for a registry."""
        return ImageRef(self.transport, self.name, None, digest)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about how to run it (the `config` object of an OCI image configuration)."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    user: str = ""


def parse_image_ref(text: str) -> ImageRef:
    """`registry/name:tag[@sha256:…]`, `oci:DIR[:TAG]`, `docker-archive:FILE[:REF]`, `docker-daemon:REF`.

    A leading `docker://` is accepted, as skopeo writes it. Raises InvalidImageRef.
    """
    if not text or text != text.strip() or any(ord(c) < 33 for c in text):
        raise InvalidImageRef(text, "it is empty or contains white space")
    if text.startswith("docker://"):
        return _parse_registry(text.removeprefix("docker://"), text)
    scheme, colon, rest = text.partition(":")
    if colon and scheme in {"oci", "docker-archive", "docker-daemon"}:
        return _parse_local(Transport(scheme), rest, text)
    return _parse_registry(text, text)


def _parse_registry(rest: str, text: str) -> ImageRef:
    name, at, digest = rest.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidImageRef(text, "what follows '@' is not sha256: and 64 hexadecimal digits")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    elif not _TAG.fullmatch(tag):
        raise InvalidImageRef(text, f"{tag!r} is no tag")
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidImageRef(text, f"{repository!r} is no repository name (lower case, parts divided by '/')")
    return ImageRef(Transport.REGISTRY, repository, tag or (None if at else "latest"), digest or None)


def _parse_local(transport: Transport, rest: str, text: str) -> ImageRef:
    if not rest:
        raise InvalidImageRef(text, f"nothing follows {transport.value}:")
    if transport is Transport.DOCKER_DAEMON:
        return ImageRef(transport, rest) if _DIGEST.fullmatch(rest) else _daemon_ref(rest, text)
    path, colon, tag = rest.partition(":")
    return ImageRef(transport, path, tag if colon and tag else None)


def _daemon_ref(rest: str, text: str) -> ImageRef:
    parsed = _parse_registry(rest, text)
    return ImageRef(Transport.DOCKER_DAEMON, parsed.name, parsed.tag, parsed.digest)


def _is_registry_host(host: str) -> bool:
    """Docker's rule: the first part is a host if it has a dot or a port, or is `localhost`."""
    return "." in host or ":" in host or host == "localhost"
