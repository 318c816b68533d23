# Shared by ./test and ./demo (sourced, POSIX sh): installs what is missing on Debian, and makes .venv.
# Both run from the root of the checkout. Nothing is removed, upgraded or started.

# Tools of the administrator are not on every root's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

# Containers often set it. Here hundreds of Python processes begin, and each would compile the same code anew.
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "$*"; }

# stop WHAT HELP: end with what is missing and the command that helps.
stop() {
    printf '\n%s: %s\n  %s\n' "${0##*/}" "$1" "$2" >&2
    exit 1
}

require_debian_root() {
    [ "$(uname -s)" = Linux ] ||
        stop "this needs Linux, and this is $(uname -s)." "Run it in a virtual machine with Debian 12."
    [ "$(id -u)" = 0 ] ||
        stop "this needs root: it starts container engines of its own." "sudo ./${0##*/}"
    command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
        stop "this installs what it needs with apt-get, which is not here." \
            "Run it on Debian 12, for example in a virtual machine."
}

# Sets PYTHON. Debian's own comes first: a version manager's python3 may lack modules such as ssl or sqlite3.
find_python() {
    for PYTHON in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        PYTHON="$(command -v "$PYTHON")" || continue
        "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    done
    stop "there is no Python 3.11 or newer." "apt-get install python3   (Debian 12 and newer)"
}

# is_here NEED: NEED is a command, a path (with patterns), or package:NAME.
is_here() {
    case "$1" in
    package:*) dpkg-query -W -f '${db:Status-Status}' "${1#package:}" 2>/dev/null | grep -qx installed ;;
    /*) for path in $1; do [ -e "$path" ] && return; done; return 1 ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# install_missing: reads lines "NEED PACKAGE WHY…" and installs the packages of those needs that are not met.
install_missing() {
    missing=
    while read -r need package why; do
        [ -z "$need" ] || is_here "$need" || { missing="$missing $package"; say "  $package: $why"; }
    done
    [ -n "$missing" ] || return 0
    say "Installing with apt-get:$missing"
    hold_services
    # shellcheck disable=SC2086
    apt-cache show $missing >/dev/null 2>&1 || apt_get update || true
    apt_install $missing || { apt_get update && apt_install $missing; } ||
        stop "apt-get could not install:$missing (its words are above)." "apt-get update && apt-get install$missing"
    release_services
}

# Some packages start a server when installed. Ours are private ones, so Debian's stay off, unless somebody has decided already.
service_policy=/usr/sbin/policy-rc.d

hold_services() {
    [ ! -e "$service_policy" ] || return 0
    trap release_services EXIT
    trap 'exit 130' INT TERM
    holding=yes
    printf '#!/bin/sh\nexit 101\n' >"$service_policy"
    chmod 755 "$service_policy"
}

release_services() {
    [ "${holding:-}" = yes ] || return 0
    rm -f "$service_policy"
    holding=
    trap - EXIT INT TERM
}

apt_install() { apt_get install --yes --no-install-recommends "$@"; }

# apt-get says hundreds of lines; they are shown only when it fails.
apt_get() {
    mkdir -p .cache
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" \
        >.cache/apt-get.log 2>&1 </dev/null || { tail -n 30 .cache/apt-get.log >&2; return 1; }
}

# make_venv: .venv with exactly what requirements.lock says, and this checkout in it; nothing to do when up to date.
make_venv() {
    find_python
    wanted="$("$PYTHON" --version) $(cat requirements.lock pyproject.toml | sha256sum)"
    stamp=.venv/made-from
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || install_missing <<-END
		package:python3-venv python3-venv makes the virtual environment that keeps the libraries in .venv
	END
    say "Making .venv with $("$PYTHON" --version) from requirements.lock"
    "$PYTHON" -m venv .venv ||
        stop "$PYTHON cannot make a virtual environment." "apt-get install python3-venv"
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock &&
        .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable . ||
        stop "pip could not install the locked libraries (its words are above)." \
            "Check the network, then run ./${0##*/} again."
    printf '%s\n' "$wanted" >"$stamp"
}
