"""What a service is made of and changed by, from Render's words to Oneoff's. What has no counterpart is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneoff.core.instance_types import Catalogue
from oneoff.core.service import ServiceType
from oneoff.errors import InvalidBody
from oneoff.render_api.plan_names import to_instance_type
from oneoff.render_api.queries import need_text, read_word, take_object, take_text
from oneoff.render_api.service_shapes import RUNTIME

_NO_LETTERS = re.compile(r"[^a-z0-9]+")

# Field -> why it cannot be had here. Fields that only say how the app itself is hosted are ignored: see docs.
_REFUSED: Mapping[str, str] = {
    "repo": "Oneoff builds nothing: give image.imagePath, an image that is built already",
    "secretFiles": "Oneoff has no secret files: give variables, or put the file into the image",
    "buildSourceId": "Oneoff builds nothing: give image.imagePath",
}
_REFUSED_DETAILS: Mapping[str, str] = {
    "disk": "runs have no persistent disk",
    "preDeployCommand": "save the command as a job and make it a gate of deploys (`oneoff job create … --gate`)",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """None = not asked for."""

    kind: ServiceType
    image: str | None
    instance_type: str | None
    command: str | None
    schedule: str | None

    def settings(self) -> dict[str, Any]:
        return {} if self.instance_type is None else {"instance_type": self.instance_type}


def read_kind(body: Mapping[str, Any]) -> ServiceType:
    """Raises InvalidBody."""
    return read_word(need_text(body, "type"), "type", ServiceType)


def read_asked(body: Mapping[str, Any], kind: ServiceType, catalogue: Catalogue) -> Asked:
    """Of a body that makes or changes a service. Raises InvalidBody."""
    details = take_object(body, "serviceDetails")
    _refuse(body, _REFUSED, "")
    _refuse(details, _REFUSED_DETAILS, "serviceDetails.")
    for name in ("runtime", "env"):
        if details.get(name) not in (None, "", RUNTIME):
            raise InvalidBody(f"serviceDetails.{name} must be {RUNTIME}: Oneoff builds nothing", name)
    if body.get("autoDeploy") not in (None, "", "no"):
        raise InvalidBody("autoDeploy must be no: deploys are asked for, POST /services/{id}/deploys", "autoDeploy")
    specific = take_object(details, "envSpecificDetails")
    _refuse(specific, {"preDeployCommand": _REFUSED_DETAILS["preDeployCommand"]}, "envSpecificDetails.")
    is_cron = kind is ServiceType.CRON_JOB
    return Asked(
        kind,
        _read_image(body),
        to_instance_type(take_text(details, "plan", within="serviceDetails."), kind, catalogue),
        take_text(specific, "dockerCommand", within="envSpecificDetails.") if is_cron else None,
        take_text(details, "schedule", within="serviceDetails.") if is_cron else None,
    )


def to_path_name(name: str) -> str:
    """A name as paths take them: My App -> my-app. Raises InvalidBody."""
    word = _NO_LETTERS.sub("-", name.lower()).strip("-")[:63].rstrip("-")
    if not word or not word[0].isalpha():
        raise InvalidBody(f"name {name!r} must begin with a letter a to z", "name")
    return word


def _read_image(body: Mapping[str, Any]) -> str | None:
    image = body.get("image")
    if image is None or isinstance(image, str):
        return image or None
    given = take_object(body, "image")
    if given.get("registryCredentialId"):
        raise InvalidBody(
            "image.registryCredentialId: Oneoff keeps a registry's password with each service, "
            "`oneoff deploy … --registry-user`, or uses the server's Docker configuration",
            "image",
        )
    return need_text(given, "imagePath", within="image.")


def _refuse(given: Mapping[str, Any], refused: Mapping[str, str], within: str) -> None:
    for name, why in refused.items():
        if given.get(name):
            raise InvalidBody(f"{within}{name}: {why}", name)
