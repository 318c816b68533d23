# Makes the images of examples/shop without Docker (sourced by ./demo): an OCI layout in .cache, made again when its source changes.
# Sets SHOP_LAYOUT (a folder); its tags are the releases 1, 2 and 3.

make_shop_image() {
    case "$(uname -m)" in
    x86_64 | aarch64) machine="$(uname -m)" ;;
    *) stop "the demo's app has no PostgreSQL library for $(uname -m)." "Run it on an x86_64 or aarch64 machine." ;;
    esac
    key="$( (echo "$machine"; cat tools/shop-image.sh; find examples/shop -type f ! -path '*/__pycache__/*' | LC_ALL=C sort | xargs cat) |
        sha256sum | cut -c1-16)"
    SHOP_LAYOUT="$PWD/.cache/demo/shop-$key"
    [ ! -e "$SHOP_LAYOUT" ] || return 0
    rm -rf .cache/demo/shop-* .cache/demo/making.*
    scratch="$(mktemp -d "$PWD/.cache/demo/making.XXXXXX")"
    make_debian_layer
    make_library_layer
    make_app_layer
    assemble_shop_image
    mv "$scratch/layout" "$SHOP_LAYOUT"
    rm -rf "$scratch"
}

# Debian 12 with Python 3.11 and a user, whatever system this machine has; without the Perl that only its set-up needed.
make_debian_layer() {
    debian="$PWD/.cache/demo/debian-12-python-$machine.tar"
    [ ! -e "$debian" ] || return 0
    say "  Debian with Python (mmdebstrap, about a quarter of a minute)"
    in_memory mmdebstrap --quiet --variant=essential --include=python3 --aptopt='Apt::Install-Recommends "false"' \
        --customize-hook='rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/* "$1"/usr/lib/*/gconv/*' \
        --customize-hook='rm -rf "$1"/usr/share/perl "$1"/usr/lib/*/perl "$1"/var/cache/*' \
        --customize-hook='ln -s python3 "$1/usr/bin/python"' \
        --customize-hook='echo "app:x:1000:1000::/home/app:/bin/sh" >>"$1/etc/passwd"' \
        --customize-hook='echo "app:x:1000:" >>"$1/etc/group"' \
        --customize-hook='install -d -o 1000 -g 1000 "$1/home/app"' \
        bookworm >"$scratch/debian.tar" 2>"$scratch/mmdebstrap.log" || {
        tail -n 20 "$scratch/mmdebstrap.log" >&2
        stop "mmdebstrap could not make a small Debian (its words are above)." "Check the network, then run ./demo again."
    }
    mv "$scratch/debian.tar" "$debian"
}

# in_memory COMMAND…: with a /tmp of its own in memory, where there is room for 320 MB of small files; a disk is three times as slow.
in_memory() {
    unshare --mount sh -c '
        cd / && room="$(awk "/^MemAvailable:/ { print \$2 }" /proc/meminfo)"
        [ "$room" -lt 1000000 ] || mount -t tmpfs -o mode=1777 in-memory /tmp
        TMPDIR=/tmp exec "$@"' sh "$@"
}

# The wheels of requirements.txt for the image's Python, which need not be this machine's.
make_library_layer() {
    say "  Django and psycopg (pip)"
    libraries="$scratch/libraries/usr/local/lib/python3.11/dist-packages"
    mkdir -p "$libraries"
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r examples/shop/requirements.txt \
        --target "$libraries" --no-compile --only-binary :all: --implementation cp --python-version 3.11 \
        --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" ||
        stop "pip could not fetch the app's libraries (its words are above)." "Check the network, then run ./demo again."
    # The shop speaks English, and most of Django's files are its other languages.
    find "$libraries/django" -type d -path '*/locale/*' -prune ! -name en -exec rm -rf {} +
    # As an image's build does: else each container would compile Django anew, which takes longer than its migrations.
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null &&
        "$PYTHON" -m compileall -q -s "$scratch/libraries" --invalidation-mode unchecked-hash "$libraries" ||
        say "  not compiled beforehand: this machine's Python is another than the image's"
    pack libraries
}

make_app_layer() {
    mkdir "$scratch/app"
    cp -R examples/shop "$scratch/app/app"
    rm -rf "$scratch/app/app/releases"
    find "$scratch/app" -name __pycache__ -prune -exec rm -rf {} +
    pack app
}

# pack FOLDER: $scratch/FOLDER.tar, owned by root.
pack() { tar -c --numeric-owner --owner=0 --group=0 --sort=name -f "$scratch/$1.tar" -C "$scratch/$1" .; }

assemble_shop_image() {
    say "  three releases of one image (umoci)"
    image="$scratch/layout:1"
    {
        umoci init --layout "$scratch/layout"
        umoci new --image "$image"
        umoci raw add-layer --image "$image" "$debian"
        umoci raw add-layer --image "$image" "$scratch/libraries.tar"
        umoci raw add-layer --image "$image" "$scratch/app.tar"
        umoci config --image "$image" --config.user app --config.workingdir /app \
            --config.env PATH=/usr/local/bin:/usr/bin:/bin --config.env PYTHONUNBUFFERED=1 --config.env SHOP_RELEASE=1 \
            --config.cmd python --config.cmd -m --config.cmd gunicorn --config.cmd shop.wsgi
        for release in 2 3; do
            mkdir "$scratch/release-$release"
            cp -R "examples/shop/releases/$release" "$scratch/release-$release/app"
            pack "release-$release"
            umoci tag --image "$image" "$release"
            umoci raw add-layer --image "$scratch/layout:$release" "$scratch/release-$release.tar"
            umoci config --image "$scratch/layout:$release" --config.env "SHOP_RELEASE=$release"
        done
        umoci gc --layout "$scratch/layout"
    } >"$scratch/umoci.log" 2>&1 || {
        tail -n 20 "$scratch/umoci.log" >&2
        stop "umoci could not make the app's image (its words are above)." "Check the free disk space of .cache, then run ./demo again."
    }
}
