"""`oneoff serve`: hands its options to the settings and the settings to the server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from oneoff.cli.session import Session, pass_session


@click.command(short_help="Run the server.")
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    help="Folder for everything; /var/lib/oneoff as root, else ~/.local/share/oneoff.",
)
@click.option("--database", "database_url", metavar="URL", help="postgresql://… instead of the embedded database.")
@click.option("--driver", metavar="NAME", help="auto (the default), docker or oci.")
@click.option("--listen", metavar="HOST:PORT", help="Address of the API; 127.0.0.1:8080 by default.")
@click.option("--slots", metavar="N", help="Containers running at once; 16 by default.")
@click.option("--plans", "plans_file", metavar="FILE", help="TOML file of the plans; built in: Starter, Pro, Team.")
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file; /etc/oneoff/config.toml by default."
)
@pass_session
def serve(session: Session, /, config: Path | None, **overrides: str | None) -> int:
    """Run the server in the foreground. TERM ends it and leaves running containers running; the next start takes them
    up again. Ready when /readyz answers 200. Every other setting is in docs/settings.md."""
    session.is_server = True
    # FastAPI asks of each type whether it is one of pydantic 1, and takes an ImportError for a no. Only here: the whole
    # process is the server's, and nobody else in it wants pydantic 1.
    sys.modules["pydantic.v1"] = None  # type: ignore[assignment]
    from oneoff.server import serve as serve_until_signal
    from oneoff.settings import load_settings

    return int(serve_until_signal(load_settings(overrides, config)))
