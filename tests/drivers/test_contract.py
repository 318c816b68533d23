"""Runs the contract suite over every rig: fake, docker, podman, oci."""

from __future__ import annotations

import pytest

from tests.drivers.contract.ends import *  # noqa: F403
from tests.drivers.contract.images import *  # noqa: F403
from tests.drivers.contract.inside import *  # noqa: F403
from tests.drivers.contract.life import *  # noqa: F403
from tests.drivers.contract.logs import *  # noqa: F403

pytestmark = pytest.mark.anyio
