"""Registry credentials: those given, else those of the server user's Docker configuration. Called by `images`.

Only `auths` of config.json is read; credential helpers are other people's programs and are not run.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oneoff.core.image import ImageRef
from oneoff.drivers.driver import RegistryCredentials


def find_credentials(image: ImageRef) -> RegistryCredentials | None:
    """From DOCKER_CONFIG/config.json or ~/.docker/config.json; None when it says nothing about this registry."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        content = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    auths = content.get("auths") if isinstance(content, dict) else None
    return to_credentials(auths, image.registry) if isinstance(auths, dict) else None


def to_credentials(auths: Mapping[str, Any], registry: str | None) -> RegistryCredentials | None:
    """The entry for `registry`; None stands for the default registry, whose key is the only one that ends with /v1/."""
    for key, entry in auths.items():
        host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
        fits = key.endswith("/v1/") if registry is None else host == registry
        if fits and isinstance(entry, dict) and (found := _decode(entry)):
            return found
    return None


def to_auth_header(credentials: RegistryCredentials | None) -> dict[str, str]:
    """X-Registry-Auth as the Engine API wants it: JSON in URL-safe base64."""
    if credentials is None:
        return {}
    text = json.dumps({"username": credentials.username, "password": credentials.password})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode("ascii")}


def _decode(entry: Mapping[str, Any]) -> RegistryCredentials | None:
    if entry.get("username") and entry.get("password"):
        return RegistryCredentials(entry["username"], entry["password"])
    try:
        user, colon, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return RegistryCredentials(user, password) if colon else None
