"""`oneoff doctor`: looks at this machine, and at the server if one runs, and says how to mend what it finds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from oneoff.cli.findings import OK, PROBLEM, WARNING, Finding
from oneoff.cli.session import Session, pass_session

_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


@click.command(short_help="Check this machine, and say how to mend it.")
@click.option("--data", "data_dir", metavar="DIR", help="The server's data folder, as for `oneoff serve`.")
@click.option("--driver", metavar="NAME", help="auto (the default: one of them must work), docker or oci.")
@click.option("--json", "as_json", is_flag=True, help="One document: {ok, findings: [{check, level, says, mend}]}.")
@pass_session
def doctor(session: Session, data_dir: str | None, driver: str | None, as_json: bool) -> int:
    """Check this machine for running commands in containers, and the server if one answers.

    Each line is ok, a warning or a problem, with its mend. Exits 0 when nothing is a problem, else 1.
    """
    findings = []
    for finding in _examine(session, data_dir, driver):
        findings.append(finding)
        if not as_json:
            _print(finding)
    problems = sum(finding.level == PROBLEM for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": not problems, "findings": [finding.to_json() for finding in findings]}, indent=2))
    else:
        warnings = sum(finding.level == WARNING for finding in findings)
        click.echo(f"\n{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}")
    return 1 if problems else 0


def _examine(session: Session, data_dir: str | None, driver: str | None) -> Iterator[Finding]:
    import asyncio

    from oneoff.cli import driver_checks, machine_checks, server_checks
    from oneoff.settings import load_settings

    settings = load_settings({"data_dir": data_dir, "driver": driver})
    yield machine_checks.check_python()
    yield machine_checks.check_sqlite()
    yield machine_checks.check_disk(settings.data_dir, settings.disk_reserve_bytes)
    yield machine_checks.check_clock()
    yield machine_checks.check_cgroups()
    yield machine_checks.check_overlay(settings.data_dir)
    yield from machine_checks.check_permissions(settings.data_dir)
    yield driver_checks.check_programs()
    yield from asyncio.run(driver_checks.check_drivers(settings))
    yield from server_checks.check_server(session)


def _print(finding: Finding) -> None:
    level = click.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
    click.echo(f"{level} {finding.check}: {finding.says}")
    if finding.mend:
        click.echo(f"{'':<8} mend: {finding.mend}")
    sys.stdout.flush()


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
