"""Files of plans and instance types: the examples, and what a wrong one says at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from oneoff.core.instance_types import CATALOGUE
from oneoff.core.plan import PLANS
from oneoff.errors import SettingsInvalid
from oneoff.offers import Offers, read_offers
from oneoff.settings import load_settings

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_examples_are_what_is_built_in() -> None:
    found = read_offers(EXAMPLES / "plans.toml", EXAMPLES / "instance-types.toml")
    assert found == Offers() == read_offers(None, None)
    assert (list(found.plans), list(found.catalogue)) == (list(PLANS), list(CATALOGUE))


def test_all_problems_of_both_files_and_of_the_settings_are_told_together(tmp_path: Path) -> None:
    plans, types = tmp_path / "plans.toml", tmp_path / "types.toml"
    plans.write_text('[gold]\nlongest_run = "soon"\n')
    types.write_text("[small]\nspeed = 1\n")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({"plans_file": str(plans), "instance_types_file": str(types), "slots": "many", "listen": "x"})
    words = str(caught.value)
    of_files = (f"{plans}: plan gold: longest_run", f"{types}: instance type small: there is no field")
    assert [told for told in (*of_files, "--slots", "--listen") if told not in words] == []


@pytest.mark.parametrize("content", [b"not toml", b"\xff", None])
def test_a_file_that_cannot_be_read_is_told_with_its_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "plans.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsInvalid, match=f"{path} cannot be read"):
        load_settings({"plans_file": path})
