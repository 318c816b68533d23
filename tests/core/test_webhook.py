"""The rules of webhooks: addresses, back-off, filters, signatures, words."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.addresses import is_allowed, is_within, parse_networks
from oneoff.core.events import KINDS, expand_kinds, is_failure
from oneoff.core.notices import to_notice
from oneoff.core.webhook import (
    DELAYS_SECONDS,
    MOST_ATTEMPTS,
    MOST_JITTER,
    SECRET_BYTES,
    Wanted,
    WebhookKind,
    check_secret,
    is_wanted,
    judge,
    make_secret,
    next_delivery_at,
    parse_url,
    shown_url,
    signed_headers,
)
from oneoff.errors import InvalidWebhook, UnknownEventKind
from oneoff.store.events import Event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event_of(kind: str = "run.ended", **body: Any) -> Event:
    return Event("evt-1", "tea-1", kind, "run-1", NOW, body, "srv-1")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.127.255.255", "224.0.0.1", "239.1.1.1", "255.255.255.255"),
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "240.0.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::ffff:100.64.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1"),
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo, of a client at 10.0.0.1
    ],
)
def test_what_lies_inside_is_refused_in_every_disguise(address: str) -> None:
    assert not is_allowed(address, ())
    assert is_allowed(address, parse_networks("all"))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_what_lies_outside_is_allowed(address: str) -> None:
    assert is_allowed(address, ())


def test_an_operator_allows_networks_and_no_more() -> None:
    networks = parse_networks("10.20.0.0/16, fd00::/8,192.168.1.7")
    assert is_allowed("10.20.3.4", networks)
    assert is_allowed("::ffff:10.20.3.4", networks)
    assert is_allowed("fd12::1", networks)
    assert not is_allowed("10.21.0.1", networks)
    assert not is_allowed("192.168.1.8", networks)
    assert not is_within("8.8.8.8", networks)
    for wrong in ("10.20.0.1/16", "nothing", "10.0.0.0/40"):
        with pytest.raises(ValueError):
            parse_networks(wrong)


@given(st.integers(1, MOST_ATTEMPTS - 1), st.floats(0, 1))
def test_the_next_attempt_comes_after_its_delay_and_at_most_a_tenth_later(attempts: int, chance: float) -> None:
    found = next_delivery_at(attempts, NOW, chance)
    assert found is not None
    delay = DELAYS_SECONDS[attempts - 1]
    assert timedelta(seconds=delay) <= found - NOW <= timedelta(seconds=delay * (1 + MOST_JITTER) + 0.001)


def test_eight_attempts_take_about_33_hours_and_each_waits_longer() -> None:
    assert MOST_ATTEMPTS == 8
    assert next_delivery_at(8, NOW, 0) is None
    assert 32.5 < sum(DELAYS_SECONDS) / 3600 < 33.5
    assert all(after >= 3 * before for before, after in pairwise(DELAYS_SECONDS))


@pytest.mark.parametrize(("status", "success"), [(200, True), (204, True), (299, True), (199, False), (301, False)])
def test_only_2xx_is_a_success(status: int, success: bool) -> None:
    assert judge(status, None).is_success is success


def test_filters_go_by_kind_service_and_failure() -> None:
    ended, failed = event_of(status="succeeded"), event_of(status="failed")
    assert is_wanted(Wanted(["run.*"]), ended)
    assert not is_wanted(Wanted(["run.started", "job.*"]), ended)
    assert is_wanted(Wanted(["*"], ["srv-2", "srv-1"]), ended)
    assert not is_wanted(Wanted(["*"], ["srv-2"]), ended)
    assert not is_wanted(Wanted(["*"], failures_only=True), ended)
    assert is_wanted(Wanted(["*"], failures_only=True), failed)


def test_kinds_expand_and_unknown_ones_are_told_with_those_there_are() -> None:
    assert expand_kinds(["run.ended", "run.*"]) == ["run.ended", "run.started", "run.time_limit_near"]
    assert expand_kinds(["*"]) == list(KINDS)
    with pytest.raises(UnknownEventKind, match=r"run\.ended"):
        expand_kinds(["run.explodes"])
    assert is_failure("job.failing", {})
    assert not is_failure("job.recovered", {})


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the Standard Webhooks specification and its libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), b'{"test": 2432232314}', [secret]
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_of_ones_own_has_24_to_64_bytes() -> None:
    assert check_secret(make_secret(b"k" * SECRET_BYTES))
    for size in (23, 65):
        with pytest.raises(InvalidWebhook):
            check_secret("whsec_" + base64.b64encode(b"k" * size).decode())
    for wrong in ("", "whsec_", "k" * 40, "whsec_!!!!", "whsec_" + "k" * 33):
        with pytest.raises(InvalidWebhook):
            check_secret(wrong)


@pytest.mark.parametrize(
    "text", ["", "ftp://a/b", "https://", "https:///x", "https://a:99999/", "https://a b/", "//a/b"]
)
def test_what_is_no_address_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidWebhook) as raised:
        parse_url(text)
    assert "a b" not in str(raised.value)


def test_what_is_secret_in_an_address_is_not_shown() -> None:
    url = "https://user:pass@example.com:8443/a/b?token=abc&x=1#frag"
    assert shown_url(url, WebhookKind.WEBHOOK) == "https://…@example.com:8443/a/b?token=…&x=…"
    assert shown_url("https://hooks.slack.com/services/T/B/key", WebhookKind.SLACK) == "https://hooks.slack.com/…"


def test_words_for_people_are_plain_and_one_line() -> None:
    body = dict.fromkeys(KINDS["job.failing"].body) | {
        "job": "shop/production:back\nup", "reason": "nonzero_exit", "exit_code": 3, "run_id": "run-7",
    }  # fmt: skip
    notice = to_notice(event_of("job.failing", **body), "https://oneoff.example.com/")
    assert notice.headline == "shop/production:back up fails: exit code 3"
    assert notice.text.splitlines()[-1] == "https://oneoff.example.com/runs/run-7"
    assert "https://" not in to_notice(event_of("job.failing", **body), None).text
    oom = to_notice(event_of("job.failing", **body | {"reason": "oom_killed", "exit_code": 137}), None)
    assert oom.headline.endswith("it ran out of memory")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words(kind: str) -> None:
    told = {name: {"reason": "lost", "status": "failed"}.get(name) for name in KINDS[kind].body}
    assert to_notice(Event("evt-1", "tea-1", kind, "run-1", NOW, told), None).headline


def test_the_documents_way_to_verify_is_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
    code = re.search(r"In Python:\n\n((?:    .*\n|\n)+)", page)
    assert code is not None
    found: dict[str, Any] = {}
    exec("\n".join(line[4:] for line in code[1].splitlines()), found)
    secret = make_secret(b"k" * 32)
    headers = signed_headers("evt-1", datetime.now(UTC), b"body", [make_secret(b"o" * 32), secret])
    assert found["is_genuine"](secret, headers, b"body")
    assert not found["is_genuine"](secret, headers, b"other")
    old = signed_headers("evt-1", datetime.now(UTC) - timedelta(hours=1), b"body", [secret])
    assert not found["is_genuine"](secret, old, b"body")
