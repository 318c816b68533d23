"""`oneoff project list`, `oneoff instance-types` and `oneoff nodes`."""

from __future__ import annotations

from typing import Any

import click

from oneoff.cli.results import age, json_option, print_json, print_table
from oneoff.cli.session import Session, pass_session
from oneoff.core.limits import format_bytes


@click.group(short_help="Projects and their environments.")
def project() -> None:
    """Projects and their environments. They are made with their first service and go with their last."""


@project.command("list")
@json_option
@pass_session
def list_projects(session: Session, as_json: bool) -> None:
    """List all projects; with --json as the API gives them, without their environments."""
    if as_json:
        print_json(session.client.get("/projects", limit=200).text)
        return
    environments: dict[str, list[str]] = {}
    for each in session.client.items("/environments"):
        owner, _, name = str(each["path"]).partition("/")
        environments.setdefault(owner, []).append(name)
    rows = [
        (p["id"], p["name"], ", ".join(sorted(environments.get(p["name"], []))), age(p["created_at"]))
        for p in session.client.items("/projects")
    ]
    print_table(("ID", "PROJECT", "ENVIRONMENTS", "AGE"), rows, "no projects yet: creating a service makes one")


@click.command("instance-types", short_help="CPU, memory and price a run can have.")
@json_option
@pass_session
def instance_types(session: Session, as_json: bool) -> None:
    """List the instance types of the server's catalogue."""
    answer = session.client.get("/instance-types")
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (t["id"], t["name"], t["class"], f"{t['cpus']:g}", format_bytes(t["memory_bytes"]), _price(t))
        for t in answer.value["items"]
    ]
    print_table(("ID", "NAME", "CLASS", "CPU", "MEMORY", "PRICE"), rows, "the catalogue is empty")


@click.command("nodes", short_help="Machines that run containers, and their slots.")
@json_option
@pass_session
def nodes(session: Session, as_json: bool) -> None:
    """List the machines that run containers: how large they are, how many slots are taken, when they were last seen."""
    answer = session.client.get("/nodes")
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (
            n["node"],
            n["driver"],
            n["engine"],
            n["cpus"],
            format_bytes(n["memory_bytes"]),
            f"{n['slots_taken']} of {n['slots']}",
            f"{age(n['seen_at'])} ago",
        )
        for n in answer.value["items"]
    ]
    print_table(("NODE", "DRIVER", "ENGINE", "CPU", "MEMORY", "SLOTS", "SEEN"), rows, "no node was seen yet")


def _price(each: dict[str, Any]) -> str:
    return str(each.get("price") or "")
