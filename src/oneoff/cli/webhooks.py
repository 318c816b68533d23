"""`oneoff webhook create|list|show|update|delete|test|deliveries|redeliver|rotate`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import click

from oneoff.cli.consent import ask
from oneoff.cli.options import Duration
from oneoff.cli.problems import CliError
from oneoff.cli.results import age, json_option, more_hint, page_options, print_fields, print_json, print_table
from oneoff.cli.session import Session, pass_session

_ID = re.compile(r"whk-[0-9a-z]{20}")
_STATUSES = ["pending", "delivered", "failed", "canceled"]
_webhook = click.argument("webhook", metavar="WEBHOOK")


@click.group("webhook", short_help="Webhooks: programs, chats and mail that are told what happens.")
def webhook() -> None:
    """Webhooks: programs, chats and mail that are told what happens. WEBHOOK is an id or a name."""


def _filters(command: Any) -> Any:
    for option in (
        click.option("--failures-only/--any-outcome", default=None, help="Only events that are failures."),
        click.option("--service", "services", multiple=True, metavar="PATH", help="Only events of this service."),
        click.option("--event", "kinds", multiple=True, metavar="KIND", help="Only these events: run.ended, or run.*"),
        click.option("--to", "recipients", multiple=True, metavar="ADDRESS", help="Recipient of mail."),
    ):
        command = option(command)
    return command


@webhook.command("create")
@click.argument("name")
@click.argument("url", required=False)
@click.option("--slack", is_flag=True, help="URL takes messages in Slack's form (Slack, Mattermost, and others).")
@click.option("--secret-stdin", is_flag=True, help="Read the secret from standard input, instead of a random one.")
@_filters
@json_option
@pass_session
def create(
    session: Session, /, name: str, url: str | None, slack: bool, secret_stdin: bool, as_json: bool, **given: Any
) -> None:
    """Tell URL, or with --to people by mail, what happens from now on. Prints the secret that signs."""
    if bool(url) is bool(given["recipients"]):
        raise click.UsageError("give the URL of a receiver, or recipients of mail with --to")
    kind = "slack" if slack else "email" if given["recipients"] else "webhook"
    body = {"name": name, "kind": kind, **_given(given)} | ({"url": url} if url else {})
    if secret_stdin:
        body["secret"] = sys.stdin.readline().strip()
    answer = session.client.create("/webhooks", body)
    if as_json:
        print_json(answer.text)
        return
    made = answer.value
    click.echo(f"{made['id']} made: {made['kind']} {made['target']}", err=True)
    if kind == "webhook":
        click.echo(made["secret"])


@webhook.command("list")
@json_option
@pass_session
def list_webhooks(session: Session, as_json: bool) -> None:
    """List webhooks, without their secrets."""
    answer = session.client.get("/webhooks", limit=200)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (w["id"], w["name"], w["kind"], w["target"], " ".join(w["kinds"]), _state(w)) for w in answer.value["items"]
    ]
    print_table(("ID", "NAME", "KIND", "TARGET", "EVENTS", "STATE"), rows, "no webhooks yet")


@webhook.command("show")
@_webhook
@click.option("--reveal", is_flag=True, help="With its secret.")
@json_option
@pass_session
def show(session: Session, /, webhook: str, reveal: bool, as_json: bool) -> None:
    """Show all of one webhook."""
    query = {"reveal": "true"} if reveal else {}
    answer = session.client.get(f"/webhooks/{_find(session, webhook)}", **query)
    if as_json:
        print_json(answer.text)
        return
    shown = dict(answer.value)
    print_fields(shown | {name: " ".join(shown[name]) for name in ("kinds", "service_ids")})


@webhook.command("update")
@_webhook
@click.option("--name", help="Another name.")
@click.option("--url", help="Another receiver.")
@click.option("--enable/--disable", "enabled", default=None, help="Tell it again what happens, or nothing any more.")
@_filters
@json_option
@pass_session
def update(session: Session, /, webhook: str, as_json: bool, **given: Any) -> None:
    """Change what is given; the rest stays. `--event "*"` is every event."""
    answer = session.client.call("PATCH", f"/webhooks/{_find(session, webhook)}", body=_given(given))
    if as_json:
        print_json(answer.text)
    else:
        click.echo(f"{answer.value['id']} changed, {_state(answer.value)}")


@webhook.command("delete")
@_webhook
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, /, webhook: str, yes: bool) -> None:
    """Delete it, with the log of its deliveries."""
    found = _find(session, webhook)
    ask(f"Delete {found}?", yes=yes)
    session.client.call("DELETE", f"/webhooks/{found}")
    click.echo(f"{found} deleted")


@webhook.command("test")
@_webhook
@json_option
@pass_session
def test(session: Session, /, webhook: str, as_json: bool) -> int:
    """Send it a test now, and print what came of it. Exits 1 when it did not arrive."""
    answer = session.client.call("POST", f"/webhooks/{_find(session, webhook)}/test")
    delivery = answer.value
    if as_json:
        print_json(answer.text)
    else:
        click.echo(f"{delivery['status']}: {_outcome(delivery)}")
    return 0 if delivery["status"] == "delivered" else 1


@webhook.command("deliveries")
@_webhook
@click.option("--status", type=click.Choice(_STATUSES), help="Only deliveries with this status.")
@page_options(20, most=200)
@json_option
@pass_session
def deliveries(session: Session, /, webhook: str, as_json: bool, **query: Any) -> None:
    """List what it was told, newest first; with --json every attempt."""
    answer = session.client.get(f"/webhooks/{_find(session, webhook)}/deliveries", **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (d["id"], d["event_kind"], d["event_id"], d["status"], len(d["attempts"]), age(d["created_at"]), _outcome(d))
        for d in answer.value["items"]
    ]
    print_table(("ID", "EVENT", "EVENT ID", "STATUS", "ATTEMPTS", "AGE", "LAST"), rows, "no deliveries yet")
    more_hint(answer.value)


@webhook.command("redeliver")
@_webhook
@click.argument("delivery", metavar="DELIVERY")
@json_option
@pass_session
def redeliver(session: Session, /, webhook: str, delivery: str, as_json: bool) -> None:
    """Send the event of DELIVERY once more."""
    answer = session.client.call("POST", f"/webhooks/{_find(session, webhook)}/deliveries/{delivery}/redeliver")
    if as_json:
        print_json(answer.text)
    else:
        click.echo(f"{answer.value['id']} is on its way")


@webhook.command("rotate")
@_webhook
@click.option(
    "--overlap", type=Duration(), default="24h", show_default=True, help="How long the old secret signs, too."
)
@click.option("--at-once", is_flag=True, help="The old secret signs nothing any more.")
@click.option("--secret-stdin", is_flag=True, help="Read the new secret from standard input.")
@json_option
@pass_session
def rotate(session: Session, /, webhook: str, overlap: int, at_once: bool, secret_stdin: bool, as_json: bool) -> None:
    """Give it a new secret, and print it."""
    body: dict[str, Any] = {"overlap_seconds": 0 if at_once else overlap}
    if secret_stdin:
        body["secret"] = sys.stdin.readline().strip()
    answer = session.client.call("POST", f"/webhooks/{_find(session, webhook)}/rotate", body=body)
    if as_json:
        print_json(answer.text)
        return
    until = answer.value["old_secret_until"]
    click.echo(f"the old secret signs until {until}" if until else "the old secret signs no more", err=True)
    click.echo(answer.value["secret"])


def _find(session: Session, text: str) -> str:
    """The id of a webhook by its id or its name."""
    if _ID.fullmatch(text):
        return text
    found = [each["id"] for each in session.client.items("/webhooks") if each["name"] == text]
    if len(found) != 1:
        many = f"{len(found)} webhooks are named {text!r}: use the id" if found else f"there is no webhook {text!r}"
        raise CliError(f"{many}; `oneoff webhook list` shows them")
    return str(found[0])


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None and value != ()
    }


def _state(each: Mapping[str, Any]) -> str:
    if not each["enabled"]:
        return f"disabled: {each['disabled_reason']}"
    return f"failing since {each['failing_since']}" if each["failing_since"] else "enabled"


def _outcome(delivery: Mapping[str, Any]) -> str:
    if not delivery["attempts"]:
        return ""
    last = delivery["attempts"][-1]
    took = f"{last['duration_ms']} ms"
    return f"{last['error']}, {took}" if last["error"] else f"{last['status_code']} in {took}"
