"""Unpacks those layers of an image that are not there yet. Started by `image`: `-m … STAGING PARENT`, folder and pid.

Each layer is written into the merged tree of those below it, an overlay in a mount namespace of this process alone, so
that whiteouts, folders that hide others and hard links into lower layers become what the kernel makes of them.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from oneoff.drivers.oci import layer, layout, linux
from oneoff.drivers.oci.imagefolder import HOME, LAYER, LAYERS, LAYOUT, TREE, to_name
from oneoff.drivers.oci.layout import Layer, LayerBroken

# What else an overlay may write into its upper tree only makes sense together with the lower ones of that moment.
_PLAIN = "redirect_dir=off,metacopy=off,index=off"


def main() -> None:
    staging = Path(sys.argv[1])
    linux.end_with_parent(int(sys.argv[2]))
    os.umask(0o022)
    try:
        unpack(staging)
    except Exception as problem:  # noqa: BLE001 - a broken archive may raise anything; the words are all that counts
        words = problem if isinstance(problem, LayerBroken | OSError) else repr(problem)
        sys.exit(f"it cannot be unpacked: {words}")


def unpack(staging: Path) -> None:
    linux.unshare_mounts()
    os.chdir(staging / HOME)
    layers = layout.read_layout(staging / LAYOUT).layers
    for number, each in enumerate(layers):
        made = Path("..", LAYERS, to_name(each.chain_id))
        if not made.exists():
            _unpack_one(number, each, made, staging)
        Path(str(number)).symlink_to(made / TREE)
    if not layers:
        Path("0").mkdir()


def _unpack_one(number: int, each: Layer, made: Path, staging: Path) -> None:
    tree = made / TREE
    made.mkdir()
    tree.mkdir()
    with tempfile.TemporaryFile(dir=staging) as archive:
        layer.decompress(each, archive)
        with _merged(number, tree, staging) if number else nullcontext(tree) as root, layer.inside(root):
            layer.extract(archive)
    (made / LAYER).write_text(json.dumps({"diff_id": each.diff_id, "bytes": layer.tree_bytes(tree)}))


@contextmanager
def _merged(number: int, tree: Path, staging: Path) -> Iterator[Path]:
    """The layers below that number, and `tree` to take the changes."""
    root, work = staging / "merged", staging / f"work-{number}"
    root.mkdir(exist_ok=True)
    work.mkdir()
    below = Path(str(number - 1)).stat()
    os.chown(tree, below.st_uid, below.st_gid)
    tree.chmod(stat.S_IMODE(below.st_mode))
    os.utime(tree, ns=(below.st_mtime_ns, below.st_mtime_ns))
    lower = ":".join(str(each) for each in reversed(range(number)))
    linux.mount_overlay(str(root), f"lowerdir={lower},upperdir={tree},workdir={work},{_PLAIN}")
    try:
        yield root
    finally:
        linux.unmount(str(root), 0)


if __name__ == "__main__":
    main()
