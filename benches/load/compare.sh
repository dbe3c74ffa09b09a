#!/bin/bash
# Drives stanzad, Prosody and ejabberd one after the other with the same load, on loopback, and
# prints what each message, login, idle session, delivery of presence and mutual subscription costs
# them, and the ratios (DESIGN §11).
#
# usage: compare.sh [SERVER ...]        servers: stanzad prosody ejabberd (default: all)
#
# All get the same ECDSA P-256 certificate, TLS version, key exchange group, SCRAM hash, accounts
# and contacts (set up over the wire), no archive, and no rate limits. Prosody and ejabberd are
# Debian's packages (apt-get install --no-install-recommends prosody ejabberd); their own services
# may not run, and nothing outside of $DATA and $OUT is touched. Reports stay in $OUT.
#
#   SECONDS_MEASURED  of each message and login row (10)      SHARDS   of stanzad (2)
#   GROUPS_OFFERED    key exchange groups (X25519)            TLS      version (1.3)
#   ROWS              which rows (see below)                  OUT      directory of the reports
#   CONTACTS          of each account that has some (50)      FRIENDS  how many have some (510)
#   DATA              directory of the servers' data, to be kept: setting up 12,750 pairs of
#                     contacts takes Prosody some minutes, and is done once (default: temporary)
#   ACCOUNTS          without contacts (2000; pairs-500 needs 1000)
#   LOAD, STANZAD     the binaries, built here if not given
#   NICE              of servers and generator (0); below 0 keeps other work out of the figures
set -euo pipefail

cd "$(dirname "$0")/../.."
# Rows for which accounts need contacts.
ROSTER_ROWS="idle-contacts presence login-contacts"
: "${SECONDS_MEASURED:=10}" "${SHARDS:=2}" "${GROUPS_OFFERED:=X25519}" "${TLS:=1.3}"
: "${ROWS:=idle window-1 window-10 pairs-500 rate login $ROSTER_ROWS subscribe}"
: "${CONTACTS:=50}" "${FRIENDS:=510}"
: "${OUT:=${CARGO_TARGET_DIR:-target}/compare}"
: "${NICE:=0}" "${PORT:=15222}" "${MECHANISM:=SCRAM-SHA-256}"
: "${ACCOUNTS:=2000}"
has_friends=
for row in $ROSTER_ROWS; do case " $ROWS " in *" $row "*) has_friends=yes ;; esac; done
[ -n "$has_friends" ] || FRIENDS=0
servers=("$@")
[ $# -gt 0 ] || servers=(stanzad prosody ejabberd)

die() { echo "compare.sh: $*" >&2; exit 1; }
[ "$(ulimit -n)" -ge 4096 ] || ulimit -n 4096 || die "2,000 sessions need ulimit -n 4096"

if [ -z "${LOAD:-}" ]; then
    LOAD=$(cargo build --bench load --profile release --message-format json |
        sed -n 's/.*"name":"load".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
fi
[ -x "$LOAD" ] || die "no load generator at '$LOAD'"

work=${DATA:+$DATA/$FRIENDS-with-$CONTACTS}
work=${work:-$(mktemp -d /tmp/compare.XXXXXX)}
mkdir -p "$work" "$OUT"
server_pid=
stop() {
    [ -n "$server_pid" ] || return 0
    kill "$server_pid" 2>/dev/null || true
    for _ in $(seq 50); do
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
    server_pid=
}
trap 'stop; [ -n "${DATA:-}" ] || rm -rf "$work"' EXIT

if [ ! -e "$work/example.org.crt" ]; then
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

# Waits until somebody listens on the port: start NAME's last step.
await_port() {
    for _ in $(seq 600); do
        (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null && return
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -20 "$work/$1.log" >&2 || true
    die "$1 does not listen on $PORT"
}

start_prosody() {
    command -v prosody >/dev/null || die "no prosody: apt-get install --no-install-recommends prosody"
    local dir=$work/prosody accounts user password
    accounts=$dir/data/example%2eorg/accounts
    mkdir -p "$accounts"
    while read -r user password; do
        # Hashed by Prosody at the account's first login.
        [ -e "$accounts/$user.dat" ] ||
            echo "return { [\"password\"] = \"$password\" };" > "$accounts/$user.dat"
    done < <(accounts)
    cat > "$dir/prosody.cfg.lua" <<CONF
pidfile = "$dir/prosody.pid"
data_path = "$dir/data"
daemonize = false
run_as_root = true
network_backend = "epoll"
gc = { mode = "${PROSODY_GC:-generational}" }
modules_enabled = { "roster", "saslauth", "tls", "disco", "ping", "posix" }
modules_disabled = { "s2s", "s2s_auth_certs" }
authentication = "internal_hashed"
password_hash = "SHA-256"
storage = "internal"
c2s_require_encryption = true
c2s_interfaces = { "127.0.0.1" }
c2s_ports = { $PORT }
c2s_direct_tls_ports = { }
ssl = { certificate = "$work/example.org.crt", key = "$work/example.org.key" }
log = { warn = "$work/prosody.log" }
VirtualHost "example.org"
CONF
    nice -n "$NICE" prosody -F --config "$dir/prosody.cfg.lua" >>"$work/prosody.log" 2>&1 &
    server_pid=$!
    await_port prosody
}

start_ejabberd() {
    command -v erl >/dev/null || die "no ejabberd: apt-get install --no-install-recommends ejabberd"
    local dir=$work/ejabberd
    mkdir -p "$dir/mnesia"
    cat "$work/example.org.crt" "$work/example.org.key" > "$dir/example.org.pem"
    cat > "$dir/ejabberd.yml" <<CONF
hosts: [example.org]
loglevel: warning
certfiles: ["$dir/example.org.pem"]
auth_method: internal
auth_password_format: scram
auth_scram_hash: sha256
disable_sasl_mechanisms: [digest-md5, X-OAUTH2]
listen:
  - port: $PORT
    ip: "127.0.0.1"
    module: ejabberd_c2s
    backlog: 1024
    starttls: true
    starttls_required: true
    max_stanza_size: 262144
    protocol_options: [no_sslv3, no_tlsv1, no_tlsv1_1]
access_rules:
  c2s: {allow: all}
modules:
  mod_disco: {}
  mod_ping: {}
  mod_roster: {}
CONF
    # As ejabberdctl does, but without a distributed node, so that no epmd is left behind.
    accounts > "$dir/accounts"
    local register="
        {ok, Accounts} = file:read_file(\"$dir/accounts\"),
        [begin
            [User, Password] = binary:split(Line, <<\" \">>),
            ejabberd_auth:user_exists(User, <<\"example.org\">>) orelse
                (ok = ejabberd_auth:try_register(User, <<\"example.org\">>, Password))
         end || Line <- binary:split(Accounts, <<\"\\n\">>, [global, trim])],
        file:write_file(\"$dir/ready\", <<>>)."
    HOME=$dir ERL_LIBS=/usr/lib/x86_64-linux-gnu ERL_MAX_PORTS=32000 ERL_CRASH_DUMP=$dir/crash.dump \
        EJABBERD_CONFIG_PATH=$dir/ejabberd.yml EJABBERD_LOG_PATH=$work/ejabberd.log \
        nice -n "$NICE" erl -noinput +K true +P 250000 -mnesia dir "\"$dir/mnesia\"" -s ejabberd \
        -eval "$register" >>"$work/ejabberd.log" 2>&1 &
    server_pid=$!
    await_port ejabberd
    for _ in $(seq 3000); do
        [ -e "$dir/ready" ] && return
        sleep 0.1
    done
    tail -20 "$work/ejabberd.log" >&2
    die "ejabberd did not take the accounts"
}

start_stanzad() {
    [ -n "${STANZAD:-}" ] || { cargo build --release >&2; STANZAD=${CARGO_TARGET_DIR:-target}/release/stanzad; }
    local dir=$work/stanzad config=$work/stanzad/stanzad.toml
    mkdir -p "$dir/certs"
    cp -p "$work"/example.org.{crt,key} "$dir/certs/"
    [ -d "$dir/data" ] || install -d -m 700 "$dir/data"
    cat > "$config" <<CONF
[server]
data = "$dir/data"
shards = $SHARDS
control = "$dir/control.sock"
[listen]
c2s = ["127.0.0.1:$PORT"]
c2s_tls = []
[tls]
certificates = "$dir/certs"
[auth]
mechanisms = ["SCRAM-SHA-256", "PLAIN"]
hashes = ["SHA-256"]
[limits]
connections_per_address_max = 20000
new_connections_per_address_max = 0
handshakes_per_address_max = 0
bytes_per_second_max = 0
stanzas_per_second_max = 0
[log]
level = "warn"
[domain."example.org"]
CONF
    nice -n "$NICE" "$STANZAD" run --config "$config" >>"$work/stanzad.log" 2>&1 &
    server_pid=$!
    await_port stanzad
    for _ in $(seq 100); do
        [ ! -S "$dir/control.sock" ] || break
        sleep 0.1
    done
    [ ! -e "$dir/ready" ] || return 0
    local user password
    while read -r user password; do
        echo "$password" |
            "$STANZAD" account add --config "$config" "$user@example.org" >/dev/null ||
            die "stanzad did not take $user@example.org"
    done < <(accounts)
    touch "$dir/ready"
}

# load SERVER ...: the generator against a server.
load() {
    nice -n "$NICE" "$LOAD" --label "$1" --address "127.0.0.1:$PORT" --domain example.org \
        --tls-version "$TLS" --groups "$GROUPS_OFFERED" --mechanism "$MECHANISM" "${@:2}"
}
friends=(--user-format "friend{}")

# row SERVER NAME COMMAND ...: one run of the generator, if ROWS names it.
row() {
    local server=$1 name=$2
    shift 2
    case " $ROWS " in *" $name "*) ;; *) return 0 ;; esac
    load "$server" --json --pid "$server_pid" --seconds "$SECONDS_MEASURED" "$@" \
        > "$OUT/$server-$name.json" || {
        rm -f "$OUT/$server-$name.json"
        tail -5 "$work/$server.log" >&2 || true
        die "$server, $name: the run failed"
    }
}

for server in "${servers[@]}"; do
    "start_$server"
    # All accounts once: a server may hash a password or make a row at the first login.
    load "$server" --accounts "$ACCOUNTS" --warm-up-seconds 0 --seconds 0.1 login >/dev/null ||
        die "$server: no login"
    if [ "$FRIENDS" -gt 0 ]; then
        load "$server" --pid "$server_pid" "${friends[@]}" \
            contacts --sessions "$FRIENDS" --contacts "$CONTACTS" >&2 || die "$server: no contacts"
    fi
    stop
    # Memory is measured in a process that has done nothing else.
    "start_$server"
    row "$server" idle idle --sessions "$ACCOUNTS"
    row "$server" window-1 messages --pairs 50 --window 1
    row "$server" window-10 messages --pairs 50 --window 10
    row "$server" pairs-500 messages --pairs 500 --window 1
    row "$server" rate rate --rate 2000 --pairs 50
    row "$server" login login --concurrency 8
    row "$server" presence "${friends[@]}" presence --sessions "$FRIENDS" --contacts "$CONTACTS"
    row "$server" login-contacts "${friends[@]}" --accounts "$FRIENDS" \
        login --concurrency 8 --contacts "$CONTACTS"
    row "$server" subscribe subscribe
    stop
    case " $ROWS " in *" idle-contacts "*)
        "start_$server"
        row "$server" idle-contacts "${friends[@]}" \
            idle --sessions "$FRIENDS" --contacts "$CONTACTS"
        stop
        ;;
    esac
done

"$LOAD" ratios --base "${servers[0]}" "$OUT"/*.json
