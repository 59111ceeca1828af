#!/usr/bin/env bash
# A private PostgreSQL for the tests, on a free port of the loopback interface.
#
#   url=$(.ci/postgres.sh start DIR)    makes or reuses the cluster in DIR/postgres, prints its URL
#   .ci/postgres.sh stop DIR            stops it and deletes DIR/postgres
#
# Sourced, it only defines postgres_start and postgres_stop, which take the directory.
# The server never runs as root: root hands it to the user `postgres`. Where the server is missing
# and the caller is root, Debian's package is installed.

postgres_say() { echo "postgres.sh: $*" >&2; }

# Runs a command as the user that owns the cluster.
postgres_as() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# Prints the folder of the newest server's programs.
postgres_bin() {
    local found
    found=$(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$found" ] && [ -x "$found/initdb" ]; then
        echo "$found"
    elif command -v initdb >/dev/null && command -v pg_ctl >/dev/null; then
        dirname "$(command -v initdb)"
    else
        return 1
    fi
}

postgres_install() {
    postgres_bin >/dev/null && return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        postgres_say "no PostgreSQL server here; install the package 'postgresql'"
        return 1
    fi
    postgres_say "installing the package 'postgresql'"
    # Debian would start a cluster of its own on port 5432.
    mkdir -p /etc/postgresql-common
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    fi
    {
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
    } >&2 || return 1
    postgres_bin >/dev/null
}

postgres_free_port() {
    local port try
    for try in $(seq 50); do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return 0
        fi
    done
    postgres_say "no free port after $try tries"
    return 1
}

postgres_init() {
    local bin=$1 home=$2 password
    rm -rf "$home"
    mkdir -p "$home" || return 1
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077 && printf '%s\n' "$password" >"$home/password")
    if [ "$(id -u)" -eq 0 ]; then
        chown -R postgres "$home"
    fi
    chmod 700 "$home"
    postgres_as "$bin/initdb" -D "$home/data" -U ordu -E UTF8 --locale=C --no-sync \
        --auth=scram-sha-256 --pwfile="$home/password" >"$home/initdb.log" 2>&1 || {
        postgres_say "initdb failed:"
        cat "$home/initdb.log" >&2
        return 1
    }
    cat >>"$home/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
shared_buffers = 32MB
max_wal_size = 256MB
autovacuum_naptime = 10min
logging_collector = off
CONF
}

postgres_url() {
    local home=$1
    echo "postgres://ordu:$(cat "$home/password")@127.0.0.1:$(cat "$home/port")/postgres"
}

postgres_start() {
    local dir home bin port try
    mkdir -p "$1" && dir=$(cd "$1" && pwd) || return 1
    home=$dir/postgres
    postgres_install || return 1
    bin=$(postgres_bin) || return 1
    if [ "$(id -u)" -eq 0 ]; then
        postgres_as test -x "$dir" || chmod o+x "$dir"
        postgres_as test -x "$dir" || {
            postgres_say "the user postgres cannot reach $dir"
            return 1
        }
    fi
    if [ -s "$home/port" ] && postgres_as "$bin/pg_ctl" -D "$home/data" status >/dev/null 2>&1; then
        postgres_url "$home"
        return 0
    fi
    [ -s "$home/data/PG_VERSION" ] || postgres_init "$bin" "$home" || return 1
    # Another process may take the port between the look and the start.
    for try in 1 2 3 4 5; do
        port=$(postgres_free_port) || return 1
        if postgres_as "$bin/pg_ctl" -D "$home/data" -l "$home/server.log" -o "-p $port" \
            -w -t 60 start >/dev/null 2>&1; then
            echo "$port" >"$home/port"
            postgres_url "$home"
            return 0
        fi
        postgres_say "try $try: the server did not start on port $port"
    done
    cat "$home/server.log" >&2
    return 1
}

postgres_stop() {
    local home=$1/postgres bin
    [ -d "$home" ] || return 0
    bin=$(postgres_bin) || return 1
    home=$(cd "$home" && pwd)
    if postgres_as "$bin/pg_ctl" -D "$home/data" status >/dev/null 2>&1; then
        postgres_as "$bin/pg_ctl" -D "$home/data" -m immediate -w stop >/dev/null || return 1
    fi
    rm -rf "$home"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -u
    case "${1:-} ${2:+dir}" in
    "start dir") postgres_start "$2" ;;
    "stop dir") postgres_stop "$2" ;;
    *)
        postgres_say "usage: $0 start|stop DIR"
        exit 2
        ;;
    esac
fi
