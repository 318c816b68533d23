# The servers of ./demo (sourced by it): PostgreSQL, the app's web process and Oneoff. Each is private, lives in $WORK and ends by its pid.

# start_postgres: sets POSTGRES_PID and DATABASE_URL. Listens on 127.0.0.1 only.
start_postgres() {
    programs="$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)"
    port="$(free_port)"
    password="$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
    # PostgreSQL refuses to run as root; Debian's package made this user.
    install -d -o postgres -g postgres -m 0700 "$WORK/postgres"
    printf '%s' "$password" >"$WORK/postgres/password"
    chown postgres "$WORK/postgres/password"
    (as_postgres "$programs/initdb" --pgdata "$WORK/postgres/data" --pwfile "$WORK/postgres/password" --username shop \
        --auth scram-sha-256 --encoding UTF8 --locale C.UTF-8 --no-sync) >"$WORK/postgres.log" 2>&1 ||
        stop_with_log "initdb could not make a database" "$WORK/postgres.log"
    as_postgres "$programs/postgres" -D "$WORK/postgres/data" -c port="$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories="$WORK/postgres" -c fsync=off >>"$WORK/postgres.log" 2>&1 &
    POSTGRES_PID=$!
    DATABASE_URL="postgresql://shop:$password@127.0.0.1:$port/postgres"
    wait_for PostgreSQL "$POSTGRES_PID" "$WORK/postgres.log" "$programs/pg_isready" -q -h 127.0.0.1 -p "$port"
}

# Becomes the program, so that $! is PostgreSQL itself and no shell before it.
as_postgres() {
    cd "$WORK/postgres"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
}

# unpack_app RELEASE: for start_app, once. The caller holds the lock of .cache.
unpack_app() {
    unpacked="$SHOP_LAYOUT.unpacked-$1"
    [ ! -e "$unpacked" ] || return 0
    rm -rf "$unpacked.part"
    umoci unpack --image "$SHOP_LAYOUT:$1" "$unpacked.part" >"$WORK/unpack.log" 2>&1 ||
        stop_with_log "umoci could not unpack the app's image" "$WORK/unpack.log"
    mv "$unpacked.part" "$unpacked"
}

# start_app RELEASE: its web process in a container of its own, with plain runc, in place of the one before. Sets APP_PID and APP_URL.
start_app() {
    end "${APP_PID:-}" TERM
    unpacked="$SHOP_LAYOUT.unpacked-$1"
    port="$(free_port)"
    APP_URL="http://127.0.0.1:$port/"
    mkdir "$WORK/app-$1"
    .venv/bin/python tools/app_bundle.py "$unpacked" "$WORK/app-$1" "DATABASE_URL=$DATABASE_URL" "SECRET_KEY=$SECRET_KEY" \
        "GUNICORN_CMD_ARGS=--bind=127.0.0.1:$port --worker-tmp-dir=/dev/shm --no-control-socket"
    runc --root "$WORK/runc" run --bundle "$WORK/app-$1" "shop-web-$1-$$" >"$WORK/app.log" 2>&1 </dev/null &
    APP_PID=$!
    wait_for "the app" "$APP_PID" "$WORK/app.log" fetch "$APP_URL"
}

# note_docker_images: where Docker runs, Oneoff brings images into it; the demo takes them out again unless they were there.
note_docker_images() {
    docker_images=
    command -v docker >/dev/null || return 0
    for release in 1 2 3; do
        digest="$(skopeo inspect --format '{{.Digest}}' "oci:$SHOP_LAYOUT:$release")"
        name="localhost/oneoff/layout:sha256-${digest#sha256:}"
        docker image inspect "$name" >/dev/null 2>&1 || docker_images="$docker_images $name"
    done
}

leave_no_images() {
    for name in ${docker_images:-}; do
        docker image rm "$name" >/dev/null 2>&1 || true
    done
}

server_notes=/run/oneoff

# give_back_notes: what the demo's server wrote there goes, and what it took the place of comes back.
give_back_notes() {
    for lock in "$server_notes"/*.lock; do
        [ "$(cat "$lock" 2>/dev/null)" != "${ONEOFF_PID:-none}" ] || rm -f "$lock"
    done
    [ ! -e "$WORK/server.json" ] || [ -e "$server_notes/server.json" ] || cp "$WORK/server.json" "$server_notes/server.json"
}

# start_oneoff: the embedded defaults, in a data folder of its own. Sets ONEOFF_PID, ONEOFF_URL and ONEOFF_TOKEN.
start_oneoff() {
    port="$(free_port)"
    ONEOFF_URL="http://127.0.0.1:$port"
    export ONEOFF_URL
    # The newest server is the one the CLI finds by itself. A server that ran here before gets its place back at the end.
    [ ! -e "$server_notes/server.json" ] || cp "$server_notes/server.json" "$WORK/server.json"
    note_docker_images
    .venv/bin/oneoff serve --data "$WORK/data" --driver auto --listen "127.0.0.1:$port" \
        >"$WORK/oneoff.log" 2>&1 </dev/null &
    ONEOFF_PID=$!
    wait_for "oneoff serve" "$ONEOFF_PID" "$WORK/oneoff.log" fetch "$ONEOFF_URL/readyz"
    ONEOFF_TOKEN="$(cat "$WORK/data/admin-token")"
    export ONEOFF_TOKEN
}

free_port() { .venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# fetch URL: the page, on stdout. Exits non-zero unless the answer is 2xx.
fetch() {
    .venv/bin/python -c 'import sys, urllib.request as r; print(r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=5).read().decode(), end="")' \
        "$1" 2>/dev/null
}

# wait_for NAME PID LOG CHECK…: until CHECK succeeds; ends the demo with the log when PID ends first or 30 s pass.
wait_for() {
    name="$1" pid="$2" log="$3"
    shift 3
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        kill -0 "$pid" 2>/dev/null || stop_with_log "$name ended at once" "$log"
        [ "$tries" -lt 150 ] || stop_with_log "$name does not answer after 30 seconds" "$log"
        sleep 0.2
    done
}

stop_with_log() {
    tail -n 30 "$2" >&2
    stop "$1 (its last words are above)." "Run ./demo again; if it happens again, report these words."
}

# end PID SIGNAL: ask, wait 15 s, kill.
end() {
    [ -n "${1:-}" ] && kill "-$2" "$1" 2>/dev/null || return 0
    tries=0
    while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 75 ]; do
        tries=$((tries + 1))
        sleep 0.2
    done
    kill -KILL "$1" 2>/dev/null || true
}

# clear_work: remove $WORK, after anything still mounted in it.
clear_work() {
    [ -n "${WORK:-}" ] || return 0
    awk -v work="$WORK/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r point; do
        umount -l "$point" || true
    done
    rm -rf "$WORK"
}
