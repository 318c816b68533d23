"""`oneoff serve`: what is wrong is told by the name of the option that was typed."""

from __future__ import annotations

import pytest

from oneoff.cli.serve import serve
from oneoff.errors import SettingsInvalid
from oneoff.settings import load_settings

_WRONG = {"database_url": "mysql://x", "driver": "lxc", "listen": "x", "slots": "many"}


@pytest.mark.parametrize("setting", _WRONG)
def test_a_wrong_option_is_told_by_its_name(setting: str) -> None:
    option = next(each.opts[0] for each in serve.params if each.name == setting)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({setting: _WRONG[setting]})
    assert caught.value.problems[0].startswith(f"{option}: ")
