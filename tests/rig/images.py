"""Small real images, made from Debian's static busybox; used by the driver contract, the engine and the crash tests.

Tags: base, noshell, wrapper, user, volume, zstd (see the functions below). Cached under `.cache/images`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.rig import layout
from tests.rig.layout import Entry, Image

BUSYBOX = Path("/bin/busybox")
# Where the programs are comes first: each folder before it is one more question to the engine before a start.
PATH_VARIABLE = "PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
TAGS = ("base", "noshell", "wrapper", "user", "volume", "zstd")
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "images"

_PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
_GROUP = b"root:x:0:\napp:x:1000:\nextra:x:1001:app\nnogroup:x:65534:\n"
_WRAPPER = b'#!/bin/sh\nexport WRAPPED=1\nexec "$@"\n'


def busybox_layout() -> Path:
    """An OCI layout folder with all of `TAGS`. Read-only for callers: copy it before changing it."""
    return _made_once("layout", lambda folder: layout.write_layout(folder, images()))


def image_ref(tag: str) -> str:
    """`oci:DIR:TAG`, as skopeo and Oneoff name an image of the layout."""
    return f"oci:{busybox_layout()}:{tag}"


def docker_archive(tag: str) -> Path:
    """The same image as a `docker save` archive, named `oneoff-test/TAG:1` inside."""

    def make(folder: Path) -> None:
        folder.mkdir()
        layout.write_docker_archive(folder / "image.tar", images()[tag], f"oneoff-test/{tag}:1")

    return _made_once(f"archive-{tag}", make) / "image.tar"


def manifest_digest(tag: str) -> str:
    """`sha256:…` of the manifest: what a run of `oci:DIR:TAG`, or of a registry holding it, is pinned to."""
    index = json.loads((busybox_layout() / "index.json").read_bytes())
    key = "org.opencontainers.image.ref.name"
    return next(str(m["digest"]) for m in index["manifests"] if m["annotations"][key] == tag)


def image_id(tag: str) -> str:
    """`sha256:…` of the configuration: what a run of the `docker save` archive is pinned to."""
    image = images()[tag]
    return layout.digest_of(layout.to_config(image, [layout.to_tar(layer) for layer in image.layers]))


@cache
def images() -> dict[str, Image]:
    """Every tag as a value."""
    base = _base()
    return {
        "base": base,
        "noshell": _noshell(),
        "wrapper": replace(
            base,
            layers=(*base.layers, (Entry("entry", _WRAPPER),)),
            config={**base.config, "Entrypoint": ["/entry"]},
        ),
        "user": replace(base, config={**base.config, "User": "app"}),
        "volume": replace(
            base,
            layers=(*base.layers, (Entry("data"), Entry("data/seeded", b"by the image\n", 0o644))),
            config={**base.config, "Volumes": {"/data": {}}},
        ),
        "zstd": replace(base, compression="zstd"),
    }


def _base() -> Image:
    """All applets, two users, and files to fail on. WORKDIR /work is not in the root file system on purpose."""
    folders = ["bin", "dev", "etc", "home", "proc", "root", "sbin", "srv", "sys", "usr", "usr/bin", "usr/sbin", "var"]
    applets = [line for line in _busybox("--list-full").splitlines() if line != "bin/busybox"]
    lower = (
        *(Entry(folder) for folder in folders),
        Entry("tmp", mode=0o1777),
        Entry("home/app", uid=1000),
        Entry("etc/passwd", _PASSWD, 0o644),
        Entry("etc/group", _GROUP, 0o644),
        Entry("bin/busybox", BUSYBOX.read_bytes()),
        *(Entry(applet, link="/bin/busybox") for applet in applets),
        Entry("srv/removed", b"a later layer removes me\n", 0o644),
    )
    upper = (
        Entry("srv/.wh.removed", b"", 0o644),
        Entry("srv/notexec", b"#!/bin/sh\necho never\n", 0o644),
        Entry("srv/badinterp", b"#!/no/such/interpreter\n"),
        Entry("srv/script", b'#!/bin/sh\necho "script: $*"\n'),
        Entry("srv/link", link="script"),
        Entry("srv/dangling", link="nowhere"),
        Entry("srv/only-root", b"#!/bin/sh\necho root\n", 0o700),
    )
    return Image((lower, upper), _config(Cmd=["sh", "-c", "echo default command"], WorkingDir="/work"))


def _noshell() -> Image:
    """Three applets and no shell."""
    names = ("true", "echo", "cat")
    return Image(
        (
            (
                *(Entry(folder) for folder in ("bin", "dev", "etc", "proc", "sys")),
                Entry("tmp", mode=0o1777),
                Entry("etc/passwd", _PASSWD, 0o644),
                Entry("bin/true", BUSYBOX.read_bytes()),
                *(Entry(f"bin/{name}", link="bin/true", hard=True) for name in names if name != "true"),
            ),
        ),
        _config(Cmd=["/bin/true"]),
    )


def _config(**more: Any) -> dict[str, Any]:
    return {"Env": [PATH_VARIABLE, "IMAGE_SAYS=hello"], **more}


def _busybox(argument: str) -> str:
    return subprocess.run([BUSYBOX, argument], check=True, capture_output=True, text=True).stdout


@cache
def _key() -> str:
    """Changes with the busybox binary and with these two modules, so that a stale cache is never used."""
    digest = hashlib.sha256(BUSYBOX.read_bytes())
    for module in (__file__, layout.__file__):
        digest.update(Path(module).read_bytes())
    return digest.hexdigest()[:16]


def _made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `make` fills, made by one process only, and complete as soon as it has its name."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    target = _CACHE / f"{name}-{_key()}"
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            scratch = Path(tempfile.mkdtemp(dir=_CACHE))
            try:
                make(scratch / name)
                (scratch / name).rename(target)
            finally:
                shutil.rmtree(scratch)
    return target
