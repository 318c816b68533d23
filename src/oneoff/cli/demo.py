"""`oneoff demo`: a server of its own on a free port, a tiny image, and three one-off runs, as a person would type them.

For those who installed the package. The demo with a real app and a real database is `./demo` of the source code.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import click

from oneoff.cli.demo_image import find_busybox, to_docker_archive
from oneoff.cli.problems import CliError

_ONEOFF = (sys.executable, "-m", "oneoff.cli.main")
_PATH = "demo/production"
_READY_SECONDS = 30
_STOP_SECONDS = 15


@click.command(short_help="Show Oneoff at work on a small image.")
@click.option("--image", metavar="REF", help="Use this image, which has a /bin/sh; else this machine's static busybox.")
@click.option("--driver", default="auto", show_default=True, metavar="NAME", help="auto, docker or oci.")
def demo(image: str | None, driver: str) -> None:
    """Show Oneoff at work: a server with its data in a temporary folder, a small image, and three one-off runs.
    Everything is stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="oneoff-demo-") as work:
        image = image or _make_image(Path(work))
        with _server(Path(work), driver) as environment:
            _show(environment, "service", "create", _PATH, "--image", image)
            _show(environment, "env", "set", _PATH, "GREETING=hello from a variable")
            for command in ('echo "$GREETING, run $ONEOFF_RUN_ID"; id', "for n in 1 2 3; do echo $n; sleep 1; done"):
                _show(environment, "run", _PATH, "--shell", command)
            code = _show(environment, "run", _PATH, "--shell", "echo this one fails >&2; exit 7", expected=7)
            click.echo(f"  its exit code is the command's own: {code}")
            _show(environment, "runs", "list")
    click.echo("\nDone; everything is stopped and removed. Next: `oneoff serve`, and `oneoff service create --help`.")


def _make_image(work: Path) -> str:
    busybox = find_busybox()
    if busybox is None:
        raise CliError(
            "there is no static busybox on this machine to make a small image of: "
            "apt-get install busybox-static, or name an image that has a /bin/sh: oneoff demo --image REF"
        )
    file = work / "image.tar"
    file.write_bytes(to_docker_archive(busybox.read_bytes()))
    return f"docker-archive:{file}"


@contextmanager
def _server(work: Path, driver: str) -> Iterator[dict[str, str]]:
    """`oneoff serve` until the end of the block; gives the environment in which `oneoff` finds it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    log, data = work / "server.log", work / "data"
    argv = [*_ONEOFF, "serve", "--data", str(data), "--driver", driver, "--listen", address]
    with log.open("wb") as out:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        _await_ready(server, f"http://{address}", log)
        token = (data / "admin-token").read_text().strip()
        yield {**os.environ, "ONEOFF_URL": f"http://{address}", "ONEOFF_TOKEN": token}
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            opener.open(f"{url}/readyz", timeout=2).close()
            return
        except (URLError, TimeoutError):
            time.sleep(0.1)
    raise CliError(f"the demo's server did not get ready; `oneoff doctor` checks this machine.\n{_last_words(log)}")


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].rstrip()


def _show(environment: dict[str, str], *arguments: str, expected: int = 0) -> int:
    """One command as a person would type it, then what it says. Raises CliError when it exits otherwise."""
    words = [f"'{word}'" if " " in word else word for word in arguments]
    click.echo(f"\n$ oneoff {' '.join(words)}")
    code = subprocess.run([*_ONEOFF, *arguments], env=environment, check=False).returncode
    if code != expected:
        raise CliError(f"`oneoff {arguments[0]}` exited with {code}; the demo ends here, and its server is stopped")
    return code
