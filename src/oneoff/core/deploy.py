"""The states of a deploy, as data. Every transition in the store is one of TRANSITIONS."""

from __future__ import annotations

from enum import StrEnum


class DeployStatus(StrEnum):
    CREATED = "created"
    PRE_DEPLOY_IN_PROGRESS = "pre_deploy_in_progress"
    LIVE = "live"
    DEACTIVATED = "deactivated"
    PRE_DEPLOY_FAILED = "pre_deploy_failed"
    IMAGE_UNAVAILABLE = "image_unavailable"
    CANCELED = "canceled"


_NEVER_LIVE = frozenset({DeployStatus.PRE_DEPLOY_FAILED, DeployStatus.IMAGE_UNAVAILABLE, DeployStatus.CANCELED})
UNFINISHED = frozenset({DeployStatus.CREATED, DeployStatus.PRE_DEPLOY_IN_PROGRESS})

TRANSITIONS: dict[DeployStatus, frozenset[DeployStatus]] = {
    DeployStatus.CREATED: _NEVER_LIVE | {DeployStatus.PRE_DEPLOY_IN_PROGRESS, DeployStatus.LIVE},
    DeployStatus.PRE_DEPLOY_IN_PROGRESS: frozenset(
        {DeployStatus.LIVE, DeployStatus.PRE_DEPLOY_FAILED, DeployStatus.CANCELED}
    ),
    DeployStatus.LIVE: frozenset({DeployStatus.DEACTIVATED}),
    DeployStatus.DEACTIVATED: frozenset(),
    **dict.fromkeys(sorted(_NEVER_LIVE), frozenset()),
}
