"""The first start, the next ones, and what a killed server leaves behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from oneoff.errors import NotAuthenticated, WrongSecretKey
from oneoff.operations import deploys
from oneoff.operations.deploying import advance
from oneoff.operations.installation import set_up
from oneoff.operations.tokens import Tokens
from oneoff.sealing import Sealer
from oneoff.store import tokens as token_rows
from oneoff.store.deploys import DeployStatus
from tests.operations.home import IMAGE, NEXT_IMAGE, Home

pytestmark = pytest.mark.anyio


async def test_a_second_start_finds_the_same_installation_and_makes_no_other_token(home: Home) -> None:
    context, before = home.context, home.admin_token
    found = await set_up(context.database, context.sealer, context.clock, home.folder)
    assert (found.instance, found.workspace_id) == (context.instance, context.workspace_id)
    assert home.admin_token == before
    assert (home.folder / "admin-token").stat().st_mode & 0o777 == 0o600
    assert (await Tokens(context).authenticate(before)).admin


async def test_a_wrong_secret_key_is_told_at_start(home: Home) -> None:
    context = home.context
    with pytest.raises(WrongSecretKey, match=r"secret\.key"):
        await set_up(context.database, Sealer(b"x" * 32), context.clock, home.folder)


async def test_a_token_whose_admin_file_was_written_before_a_crash_works(home: Home, tmp_path: Path) -> None:
    """The store did not know it: the next start tells it."""
    context = home.context
    tokens = Tokens(context)
    admin = await tokens.authenticate(home.admin_token)
    await context.database.run(lambda c: token_rows.revoke_if_valid(c, admin.id, context.clock.now()))
    (tmp_path / "admin-token").write_text("oneoff_written-before-the-crash\n")
    await set_up(context.database, context.sealer, context.clock, tmp_path)
    assert (await Tokens(context).authenticate("oneoff_written-before-the-crash")).admin
    with pytest.raises(NotAuthenticated):
        await Tokens(context).authenticate("oneoff_other")


async def test_a_deploy_that_a_killed_server_left_goes_on(home: Home) -> None:
    service = await home.add_service()
    left = await deploys.begin_deploy(home.context, service.id, NEXT_IMAGE, "me")
    assert (await advance(home.context, left.id))[0].status is DeployStatus.LIVE


async def test_a_pull_that_takes_too_long_fails_its_deploy(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await home.add_service()

    async def hang(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(home.context.driver, "prepare", hang)
    home.context = replace(home.context, settings=replace(home.context.settings, start_timeout_seconds=0))
    deploy = await deploys.create_deploy(home.context, service.id, IMAGE, "me")
    assert deploy.status is DeployStatus.IMAGE_UNAVAILABLE
    assert "start_timeout_seconds" in (deploy.message or "")
