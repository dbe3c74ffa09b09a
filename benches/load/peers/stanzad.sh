# shellcheck shell=bash disable=SC2034,SC2153,SC2154,SC2004
# stanzad for compare.sh. A name like stanzad-one-shard is a second server with data of its own.

describe_stanzad() {
    local version
    version=$("$STANZAD" status --config "${dir[stanzad]}/stanzad.toml" |
        sed -n 's/^ *version[: ]*//p')
    echo "$version; shards = $SHARDS, limits off, durability as by default"
}

# What all of its conf files have: one hash, no rate limits, a quiet log.
stanzad_settings() {
    cat <<'CONF'
[auth]
mechanisms = ["SCRAM-SHA-256", "PLAIN"]
hashes = ["SHA-256"]
[limits]
connections_per_address_max = 20000
new_connections_per_address_max = 0
handshakes_per_address_max = 0
bytes_per_second_max = 0
stanzas_per_second_max = 0
server_bytes_per_second_max = 0
server_stanzas_per_second_max = 0
[log]
level = "warn"
CONF
}

start_stanzad() {
    local server=$1 home=${dir[$1]} config=${dir[$1]}/stanzad.toml shards=$SHARDS
    [ "$server" = stanzad ] || shards=1
    mkdir -p "$home/certs"
    cp -p "$work"/example.org.{crt,key} "$home/certs/"
    [ -d "$home/data" ] || install -d -m 700 "$home/data"
    cat > "$config" <<CONF
[server]
data = "$home/data"
shards = $shards
control = "$home/control.sock"
[listen]
c2s = ["127.0.0.1:${port[$server]}"]
c2s_tls = []
# Two servers at a time cannot both have the standard ports, and no other server comes here.
s2s = []
s2s_tls = []
[tls]
certificates = "$home/certs"
$(stanzad_settings)
[domain."example.org"]
CONF
    nice -n "$NICE" "$STANZAD" run --config "$config" >>"$home.log" 2>&1 &
    pid[$server]=$!
    await_port "$server"
    for _ in $(seq 100); do
        [ ! -S "$home/control.sock" ] || break
        sleep 0.1
    done
    [ -e "$home/ready" ] || {
        accounts | add_to "$config"
        touch "$home/ready"
    }
}

# Adds the accounts that are named on standard input, with their passwords; some at a time, which
# share commits.
add_to() {
    # shellcheck disable=SC2016 # the inner shell expands these
    xargs -r -P 4 -L 1 sh -c 'told=$(echo "$3" | "$0" account add --config "$1" "$2@example.org" 2>&1) ||
        { echo "$told" >&2; exit 1; }' "$STANZAD" "$1" || die "stanzad did not take all accounts"
}

# Makes sure that there are user0 up to so many; those below ACCOUNTS are there.
add_accounts() {
    local i marker=${dir[stanzad]}/users-$1
    [ ! -e "$marker" ] || return 0
    echo "adding $(($1 - ACCOUNTS)) accounts to stanzad" >&2
    for ((i = ACCOUNTS; i < $1; i++)); do echo "user$i pw$i"; done |
        add_to "${dir[stanzad]}/stanzad.toml"
    touch "$marker"
}
