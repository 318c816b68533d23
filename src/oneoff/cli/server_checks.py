"""What `oneoff doctor` asks a running server: is it ready, do the clocks agree, do variables name 127.0.0.1."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from oneoff.cli.findings import Finding, ok, problem, warning
from oneoff.cli.problems import ApiRefused, CliError, ServerUnreachable
from oneoff.cli.session import Session

if TYPE_CHECKING:
    from oneoff.cli.client import Client

_SKEW_SECONDS = 5.0
_OWN_MACHINE = re.compile(r"(?<![\w.-])(?:127(?:\.\d{1,3}){3}|localhost|\[::1\])(?![\w.-])")
_LOOPBACK = "inside a run 127.0.0.1 is the run itself: `connection refused` there means --network host is wanted"


def check_server(session: Session) -> Iterator[Finding]:
    """Never raises: that there is no server is only told, as the machine may be a fresh one."""
    try:
        client = session.client
        ready = client.outside("/readyz")
    except ServerUnreachable as why:
        level = warning if session.target.is_explicit else _as_ok
        yield level("server", f"none answers at {why.url} ({why.why})", "start one with `oneoff serve`")
        return
    except CliError as why:
        yield problem("server", str(why), "see the message")
        return
    if ready.status == 200:
        yield ok("server", f"ready at {client.url}")
    else:
        yield problem("server", f"{client.url} is not ready: {ready.text.strip()[:300]}", "look at its log")
    yield check_skew(ready.headers.get("date", ""), time.time())
    try:
        yield from _check_offers(client)
        yield from _check_variables(client)
    except ApiRefused as why:
        yield warning("server", f"the token does not do: {why}", "set ONEOFF_TOKEN, or `oneoff login`")
    except ServerUnreachable as why:
        yield warning("server", f"it went away: {why}", "look at its log")


def check_skew(date_header: str, own_seconds: float) -> Finding:
    """The server's clock against ours; the header has whole seconds."""
    try:
        skew = parsedate_to_datetime(date_header).timestamp() - own_seconds
    except ValueError:
        return ok("clocks", "the server does not tell its time")
    if abs(skew) > _SKEW_SECONDS:
        return warning(
            "clocks",
            f"the server's clock is {skew:+.0f}s from this one's",
            "synchronize both: timedatectl set-ntp true",
        )
    return ok("clocks", "this machine and the server agree")


def _check_offers(client: Client) -> Iterator[Finding]:
    """Does the server still offer the plan and the instance types that are in use?"""
    plan = client.get("/plan").value
    if plan["plan"] is None:
        names = ", ".join(each["id"] for each in plan["offered"])
        yield warning("plan", f"the server does not offer {plan['id']} any more", f"oneoff plan set, one of {names}")
    else:
        yield ok("plan", f"{plan['id']}: {plan['runs_going']} of {plan['plan']['runs_at_once']} runs going")
    offered = {each["id"] for each in client.get("/instance-types").value["items"]}
    gone = 0
    for kind, path in (("service", "/services"), ("job", "/jobs")):
        for each in client.items(path):
            if (used := each["instance_type"]) is None or used in offered:
                continue
            gone += 1
            name = each["path"] if kind == "service" else f"{each['service']}:{each['name']}"
            says = f"{name} has {used}, which is not in the catalogue any more"
            yield warning("instance types", says, f"oneoff {kind} update {name} --instance-type ID")
    if not gone:
        yield ok("instance types", f"{len(offered)} in the catalogue, none other is in use")


def _check_variables(client: Client) -> Iterator[Finding]:
    shared = {
        each["path"]: client.get(f"/environments/{each['id']}/variables", reveal="true").value
        for each in client.items("/environments")
    }
    found = 0
    for service in client.items("/services"):
        if service["networks"] == ["host"]:
            continue
        own = client.get(f"/services/{service['id']}/variables", reveal="true").value
        names = loopback_names({**shared.get(str(service["path"]).rpartition("/")[0], {}), **own})
        if names:
            found += 1
            yield warning(
                "variables",
                f"{service['path']}: {', '.join(names)} names 127.0.0.1 or localhost; {_LOOPBACK}",
                f"oneoff service update {service['path']} --network host",
            )
    if not found:
        yield ok("variables", f"none names 127.0.0.1 ({_LOOPBACK})")


def loopback_names(variables: dict[str, Any]) -> list[str]:
    """Names of the variables whose value, as far as it is shown, names the own machine."""
    return sorted(name for name, each in variables.items() if _OWN_MACHINE.search(each["value"] or ""))


def _as_ok(check: str, says: str, mend: str) -> Finding:
    return ok(check, f"{says}; {mend}")
