#!/bin/bash
# Drives stanzad, Prosody and ejabberd with the same load on loopback, in turn within each row, and
# prints what each message, login, idle session, delivery of presence and mutual subscription costs
# them, and the ratios.
#
# usage: compare.sh [SERVER ...]        servers: stanzad prosody ejabberd (default: all)
#
# All get the same ECDSA P-256 certificate, TLS version, key exchange group, SCRAM hash, accounts
# and contacts (set up over the wire), no archive, and no rate limits. What TLS agreed on is read in
# every run, and must be the same in all runs of a row; every delivery is checked. All servers are
# started at once and the runs of a row alternate between them, so that noise meets all alike; memory
# is measured in a process that was just started. CPU time is that of all of a server's processes.
#
# Prosody and ejabberd are Debian's packages (apt-get install --no-install-recommends prosody
# ejabberd), of this system or of PEERS_ROOT; their own services may not run, and nothing outside of
# $DATA and $OUT is touched. $OUT gets results.jsonl (all runs), summary.txt and summary.md.
# peers/ has a file for each server: its settings, and how it is started. federation.sh has the rows
# of two servers of a kind, for which it needs root and dnsmasq.
#
#   ROWS              which rows; "main" (the default), "more" and "servers" stand for those listed below
#   RUNS              of each row and server (5; of many 3); medians are reported, with the lowest and highest
#   SECONDS_MEASURED  of each message and login run (5)      WARM_UP  seconds before that (2)
#   GROUPS_OFFERED    key exchange groups (X25519)           TLS      version (1.3)
#   SHARDS            of stanzad (2)                         OUT      directory of the reports
#   DATA              directory of the servers' data, to be kept: setting up 12,750 pairs of
#                     contacts takes Prosody some minutes, and is done once (default: temporary)
#   PEERS_ROOT        a root with newer peers, entered by chroot(8) as root; for example
#                     debootstrap --variant=minbase trixie ROOT, then apt-get install in it
#   CONTACTS          of each account that has some (50)     FRIENDS  how many have some (510)
#   ACCOUNTS          without contacts (2000; pairs-500 needs 1000)
#   LOAD, STANZAD     the binaries, built here if not given
#   NICE              of servers and generator (0); below 0 keeps other work out of the figures
#   PORT              the first of twelve in a row (15222)     MECHANISM  of SASL (SCRAM-SHA-256)
# shellcheck disable=SC2317 # the files of peers/ call these functions
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
main_rows="window-1 window-10 pairs-500 rate login presence idle"
more_rows="subscribe login-contacts idle-contacts shards many"
servers_rows="servers-window-1 servers-window-10 servers-first"
: "${ROWS:=main}" "${RUNS:=5}" "${SECONDS_MEASURED:=5}" "${WARM_UP:=2}" "${SHARDS:=2}" "${TLS:=1.3}"
: "${GROUPS_OFFERED:=X25519}" "${CONTACTS:=50}" "${FRIENDS:=510}" "${ACCOUNTS:=2000}"
: "${OUT:=${CARGO_TARGET_DIR:-target}/compare}" "${PEERS_ROOT:=}"
: "${NICE:=0}" "${PORT:=15222}" "${MECHANISM:=SCRAM-SHA-256}"
rows=$ROWS
ROWS=" $ROWS "
ROWS=${ROWS/ main / $main_rows }
ROWS=${ROWS/ more / $more_rows }
ROWS=${ROWS/ servers / $servers_rows }
command_line="${DATA:+DATA=$DATA }${PEERS_ROOT:+PEERS_ROOT=$PEERS_ROOT }RUNS=$RUNS ROWS=\"$rows\""
command_line+=" SECONDS_MEASURED=$SECONDS_MEASURED benches/load/compare.sh${*:+ $*}"

die() { echo "compare.sh: $*" >&2; exit 1; }
wants() { case "$ROWS" in *" $1 "*) ;; *) return 1 ;; esac; }
for row in $ROWS; do
    case " $main_rows $more_rows $servers_rows " in *" $row "*) ;; *) die "no row is named $row" ;; esac
done
# Whether any row is of single servers.
is_single=false
for row in $ROWS; do
    case " $servers_rows " in *" $row "*) ;; *) is_single=true ;; esac
done
$is_single || ACCOUNTS=0
wants presence || wants login-contacts || wants idle-contacts || FRIENDS=0
servers=("$@")
[ $# -gt 0 ] || servers=(stanzad prosody ejabberd)

ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 4096 ] || die "2,000 sessions need ulimit -n 4096"
# As many sessions as the limit on open files admits, less what server and generator need besides.
open_files=$(ulimit -n)
[ "$open_files" != unlimited ] && [ "$open_files" -lt 20400 ] || open_files=20400
many=$(((open_files - 400) / 200 * 200))

if [ -z "${LOAD:-}" ]; then
    LOAD=$(cargo build --bench load --profile release --message-format json |
        sed -n 's/.*"name":"load".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
fi
[ -x "$LOAD" ] || die "no load generator at '$LOAD'"
if [ -z "${STANZAD:-}" ]; then
    cargo build --release >&2
    STANZAD=${CARGO_TARGET_DIR:-target}/release/stanzad
fi

work=${DATA:+$DATA/510-with-$CONTACTS}
$is_single || work=${DATA:+$DATA/servers}
work=${work:-$(mktemp -d /tmp/compare.XXXXXX)}
mkdir -p "$work" "$OUT"
work=$(cd "$work" && pwd)
results=$OUT/results.jsonl
: > "$results"

# Directory, port and process of each server that has been started.
declare -A dir=() port=() pid=()
failures=0

# The command before a peer's own, which enters PEERS_ROOT with the data directory at the same path.
# Its mounts end with the process.
# shellcheck disable=SC2016 # the inner shell expands these
enter='mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mkdir -p "$1$2" &&
    mount --bind "$2" "$1$2" && root=$1 && shift 2 && exec chroot "$root" "$@"'
peer=(nice -n "$NICE")
[ -z "$PEERS_ROOT" ] || peer+=(unshare --mount sh -c "$enter" enter "$PEERS_ROOT" "$work")

# The version of the first of these packages that is there.
package() {
    local name
    for name in "$@"; do
        dpkg-query --admindir="$PEERS_ROOT/var/lib/dpkg" -W -f '${Version}' "$name" 2>/dev/null && return
    done
    echo unknown
}

# A peer's data belong to its version; stanzad moves its own on.
home() {
    case $1 in
        stanzad*) echo "$work/$1" ;;
        *) echo "$work/$1${PEERS_ROOT:+-$(basename "$PEERS_ROOT")}" ;;
    esac
}

# shellcheck source=benches/load/peers/stanzad.sh
. "$here/peers/stanzad.sh"
# shellcheck source=benches/load/peers/prosody.sh
. "$here/peers/prosody.sh"
# shellcheck source=benches/load/peers/ejabberd.sh
. "$here/peers/ejabberd.sh"
# shellcheck source=benches/load/federation.sh
. "$here/federation.sh"

stop() {
    local server=$1 process=${pid[$1]:-}
    [ -n "$process" ] || return 0
    unset "pid[$server]"
    kill "$process" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$process" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
}
stop_all() {
    local server
    for server in "${!pid[@]}"; do stop "$server"; done
}
trap 'stop_all; stop_names; [ -n "${DATA:-}" ] || rm -rf "$work"' EXIT

# Kept data may be older than its certificate is valid.
if ! openssl x509 -checkend 86400 -noout -in "$work/example.org.crt" >/dev/null 2>&1; then
    openssl ecparam -name prime256v1 -genkey -noout -out "$work/example.org.key" 2>/dev/null
    openssl req -new -x509 -key "$work/example.org.key" -out "$work/example.org.crt" -days 30 \
        -subj /CN=example.org -addext subjectAltName=DNS:example.org 2>/dev/null
    chmod 600 "$work/example.org.key"
fi

# Accounts: user0 ... without contacts, and friend0 ... with some.
accounts() {
    local i
    for ((i = 0; i < ACCOUNTS; i++)); do echo "user$i pw$i"; done
    for ((i = 0; i < FRIENDS; i++)); do echo "friend$i pw$i"; done
}

# Waits until the server takes connections; and what it may still have to do is its file's to know.
await_port() {
    for _ in $(seq 600); do
        (exec 3<>"/dev/tcp/127.0.0.1/${port[$1]}") 2>/dev/null && return
        kill -0 "${pid[$1]}" 2>/dev/null || break
        sleep 0.1
    done
    tail -20 "${dir[$1]}.log" >&2 || true
    die "$1 does not listen on ${port[$1]}"
}

# start NAME: runs start_NAME of its file in peers/, which sets pid[NAME].
start() {
    dir[$1]=$(home "$1")
    mkdir -p "${dir[$1]}"
    case $1 in
        stanzad) port[$1]=$PORT ;;
        prosody) port[$1]=$((PORT + 1)) ;;
        ejabberd) port[$1]=$((PORT + 2)) ;;
        *) port[$1]=$((PORT + 3)) ;;
    esac
    "start_${1%%-*}" "$1"
}

# load SERVER ...: the generator against a server.
load() {
    nice -n "$NICE" "$LOAD" --address "127.0.0.1:${port[$1]}" --domain "${DOMAIN:-example.org}" \
        --tls-version "$TLS" --groups "$GROUPS_OFFERED" --mechanism "$MECHANISM" "${@:2}"
}
friends=(--user-format "friend{}")

# run SERVER LABEL ROW GOAL ...: one run. One that fails is told, and the others go on.
run() {
    local server=$1 label=$2 row=$3 goal=$4 report
    shift 4
    kill -0 "${pid[$server]}" 2>/dev/null || die "$server has ended; see ${dir[$server]}.log"
    if report=$(load "$server" --label "$label" --row "$row" --goal "$goal" --json \
        --pid "${pid[$server]}" --warm-up-seconds "$WARM_UP" --seconds "$SECONDS_MEASURED" "$@" \
        2>"$OUT/last-run.txt"); then
        echo "$report" >> "$results"
        printf '%s\r' "$(date +%T) $row: $label" >&2
    else
        echo "$row: $label failed: $(tail -3 "$OUT/last-run.txt")" >&2
        failures=$((failures + 1))
    fi
}

# row NAME ROW GOAL ...: RUNS runs with each server, in turn, if ROWS names it.
row() {
    wants "$1" || return 0
    local i server
    for ((i = 0; i < RUNS; i++)); do
        for server in "${servers[@]}"; do run "$server" "$server" "${@:2}"; done
    done
}

# The same, each in a server that was just started.
fresh_row() {
    wants "$1" || return 0
    local i server
    for ((i = 0; i < RUNS; i++)); do
        for server in "${servers[@]}"; do
            start "$server"
            run "$server" "$server" "${@:2}"
            stop "$server"
        done
    done
}

# What is done once with kept data: all accounts log in, as a server may hash a password or make a row
# at the first login, and friends become contacts of each other.
prepare() {
    local server=$1 done_once="${dir[$1]}/prepared-$ACCOUNTS"
    if [ ! -e "$done_once" ]; then
        load "$server" --accounts "$ACCOUNTS" --warm-up-seconds 0 --seconds 0.1 login >/dev/null ||
            die "$server: no login"
        touch "$done_once"
    fi
    done_once="${dir[$server]}/contacts-$FRIENDS-$CONTACTS"
    if [ "$FRIENDS" -gt 0 ] && [ ! -e "$done_once" ]; then
        load "$server" "${friends[@]}" contacts --sessions "$FRIENDS" --contacts "$CONTACTS" >&2 ||
            die "$server: no contacts"
        touch "$done_once"
    fi
}

head=$OUT/servers.txt
{
    echo "$(date -u +%F), $(lscpu | sed -n 's/^Model name: *//p'), $(nproc) cores, Linux $(uname -r)"
    echo "TLS $TLS, $GROUPS_OFFERED, ECDSA P-256, $MECHANISM; no archive, no rate limits;" \
        "median (lowest-highest) of $RUNS runs of $SECONDS_MEASURED s"
} > "$head"
for server in "${servers[@]}"; do
    start "$server"
    ! $is_single || prepare "$server"
    echo "$server: $("describe_$server")" >> "$head"
    stop "$server"
done
cat "$head" >&2

# Memory first, while nothing else runs.
fresh_row idle "idle, $ACCOUNTS sessions" ">= 3" idle --sessions "$ACCOUNTS" --settle-seconds 8
fresh_row idle-contacts "idle, $FRIENDS sessions, $CONTACTS contacts" "" \
    "${friends[@]}" idle --sessions "$FRIENDS" --contacts "$CONTACTS" --settle-seconds 8

for server in "${servers[@]}"; do start "$server"; done
row window-1 "messages, 50 pairs, 1 outstanding" ">= 4" messages --pairs 50 --window 1
row window-10 "messages, 50 pairs, 10 outstanding" ">= 3.5" messages --pairs 50 --window 10
row pairs-500 "messages, 500 pairs, 1 outstanding" ">= 4" messages --pairs 500 --window 1
row rate "messages at a rate of 2,000/s, 50 pairs" "latency >= 1" rate --rate 2000 --pairs 50
row login "login" ">= 3.5" login --concurrency 8
row presence "presence, $FRIENDS sessions, $CONTACTS contacts" ">= 3.5" \
    "${friends[@]}" presence --sessions "$FRIENDS" --contacts "$CONTACTS"
row login-contacts "login, $CONTACTS contacts, 10 online" "" \
    "${friends[@]}" --accounts "$FRIENDS" login --concurrency 8 --contacts "$CONTACTS"
row subscribe "mutual subscription" "" subscribe
stop_all

# Rows of stanzad alone.
if wants shards && [[ " ${servers[*]} " == *" stanzad "* ]]; then
    start stanzad
    start stanzad-one-shard
    for ((i = 0; i < RUNS; i++)); do
        # Accounts are spread by chance: of a hundred one shard would often have a fifth more.
        run stanzad-one-shard "one shard" "shards: messages, 500 pairs, 1 outstanding" \
            "CPU <= 1.2, threads <= 1.15" --threads shard- messages --pairs 500 --window 1
        run stanzad "$SHARDS shards" "shards: messages, 500 pairs, 1 outstanding" \
            "CPU <= 1.2, threads <= 1.15" --threads shard- messages --pairs 500 --window 1
    done
    stop_all
fi
if wants many && [[ " ${servers[*]} " == *" stanzad "* ]]; then
    start stanzad
    add_accounts "$many"
    # The generator derives the keys of so many accounts in each run, which takes it minutes.
    for ((i = 0; i < (RUNS < 3 ? RUNS : 3); i++)); do
        for sessions in 200 "$many"; do
            run stanzad "$sessions sessions" "many sessions: messages, 1 outstanding of each pair" \
                "<= 2.2" messages --pairs "$((sessions / 2))" --window 1
        done
    done
    stop_all
fi

federation_rows

status=0
"$LOAD" summary "$results" > "$OUT/summary.txt" || status=1
{
    echo "\`$command_line\`"
    echo
    sed 's/^/- /' "$head"
    sed -n "s/.*\"generator's OpenSSL\":\"\([^\"]*\)\".*/- load generator: \1/p;q" "$results"
    "$LOAD" summary --markdown "$results" 2>/dev/null || true
} > "$OUT/summary.md"
cat "$head" "$OUT/summary.txt"
echo "$OUT/summary.md has the main figures in Markdown, $results all."
[ "$failures" = 0 ] || die "$failures runs failed"
exit "$status"
