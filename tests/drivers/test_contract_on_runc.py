"""The oci driver on runc, too: those parts of the contract that a runtime can break. `test_contract` has it on crun."""

from __future__ import annotations

import pytest

from tests.drivers.contract.ends import *  # noqa: F403
from tests.drivers.contract.inside import *  # noqa: F403
from tests.drivers.contract.life import *  # noqa: F403
from tests.drivers.rigs import Rig, oci_rig

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest) -> Rig:
    return oci_rig(request, "runc")
