"""Tests of the drivers. The contract's asserts are to be as talkative as those of test modules."""

import pytest

pytest.register_assert_rewrite("tests.drivers.contract", "tests.drivers.bench")
