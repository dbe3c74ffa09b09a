# shellcheck shell=bash disable=SC2034,SC2153,SC2154,SC2004
# Rows of compare.sh with two servers of a kind, home.example and away.example: what a message from one
# to the other costs both together, and how long the first one takes when they have no stream yet.
#
# Both kinds get the same name server on loopback (dnsmasq, SRV records for STARTTLS) and certificates
# by the same authority, and prove themselves by EXTERNAL. Prosody asks /etc/resolv.conf, which a mount
# namespace of its own replaces; that, and the name server's port 53, need root. ejabberd is left out:
# it takes its resolver's settings from the Erlang runtime's files.
#
# Prosody is to have lua-unbound, which Debian recommends with it: its own resolver waits a second between
# two questions, and a first message takes as long.
#
#   PAIRS_OF_SERVERS  pairs of accounts of the message rows (50)
#   LINKS             domains of away.example that the first messages go to (100)
#   NAMES             address of the name server (127.0.53.1)

: "${PAIRS_OF_SERVERS:=50}" "${LINKS:=100}" "${NAMES:=127.0.53.1}"

wants_federation() {
    local row
    for row in $servers_rows; do ! wants "$row" || return 0; done
    return 1
}

# federation_port KIND HOME|AWAY c2s|s2s
federation_port() {
    local offset=4
    [ "$1" = stanzad ] || offset=8
    [ "$2" = home ] || offset=$((offset + 2))
    [ "$3" = c2s ] || offset=$((offset + 1))
    echo $((PORT + offset))
}

# The domains of a server: one, and those that are met for the first time.
federation_domains() {
    local i
    echo "$1.example"
    [ "$1" = away ] || return 0
    for ((i = 0; i < LINKS; i++)); do echo "c$i.away.example"; done
}

# The accounts of a server: localpart, domain and password.
federation_accounts() {
    local i
    for ((i = 0; i < (LINKS > PAIRS_OF_SERVERS ? LINKS : PAIRS_OF_SERVERS); i++)); do
        echo "user$i $1.example pw$i"
    done
    [ "$1" = away ] || return 0
    for ((i = 0; i < LINKS; i++)); do echo "user$i c$i.away.example pw$i"; done
}

# An authority, and a certificate of each server for all of its domains.
federation_certificates() {
    local side names
    federation=$work/federation
    mkdir -p "$federation"
    openssl x509 -checkend 86400 -noout -in "$federation/ca.crt" >/dev/null 2>&1 &&
        [ "$(cat "$federation/links" 2>/dev/null)" = "$LINKS" ] && return 0
    openssl ecparam -name prime256v1 -genkey -noout -out "$federation/ca.key" 2>/dev/null
    openssl req -new -x509 -key "$federation/ca.key" -out "$federation/ca.crt" -days 30 \
        -subj "/CN=compare.sh" 2>/dev/null
    for side in home away; do
        names=$(federation_domains $side | sed 's/^/DNS:/' | paste -sd,)
        openssl ecparam -name prime256v1 -genkey -noout -out "$federation/$side.key" 2>/dev/null
        chmod 600 "$federation/$side.key"
        openssl req -new -key "$federation/$side.key" -subj "/CN=$side.example" 2>/dev/null |
            openssl x509 -req -CA "$federation/ca.crt" -CAkey "$federation/ca.key" -CAcreateserial \
                -days 30 -out "$federation/$side.crt" 2>/dev/null \
                -extfile <(echo "subjectAltName=$names"; echo "basicConstraints=critical,CA:FALSE")
    done
    echo "$LINKS" > "$federation/links"
}

# start_names KIND: a name server that tells where the two servers of a kind are.
start_names() {
    local side domain
    command -v dnsmasq >/dev/null || die "no dnsmasq: apt-get install --no-install-recommends dnsmasq-base"
    stop_names
    {
        printf '%s\n' no-resolv no-hosts bind-interfaces keep-in-foreground port=53 pid-file= \
            "listen-address=$NAMES" local=/example/ "host-record=host.example,127.0.0.1"
        for side in home away; do
            federation_domains $side | while read -r domain; do
                echo "srv-host=_xmpp-server._tcp.$domain,host.example,$(federation_port "$1" $side s2s)"
            done
        done
    } > "$federation/dnsmasq.conf"
    echo "nameserver $NAMES" > "$federation/resolv.conf"
    dnsmasq --conf-file="$federation/dnsmasq.conf" --user=root >>"$federation/dnsmasq.log" 2>&1 &
    names_process=$!
    for _ in $(seq 50); do
        (exec 3<>"/dev/tcp/$NAMES/53") 2>/dev/null && return 0
        sleep 0.1
    done
    tail -5 "$federation/dnsmasq.log" >&2
    die "no name server at $NAMES"
}
stop_names() {
    [ -n "${names_process:-}" ] || return 0
    kill "$names_process" 2>/dev/null || true
    wait "$names_process" 2>/dev/null || true
    names_process=
}

# start_pair KIND, stop_pair KIND: both servers.
start_pair() {
    local side
    start_names "$1"
    for side in home away; do
        dir[$1-$side]=$(home "$1-$side")
        port[$1-$side]=$(federation_port "$1" $side c2s)
        mkdir -p "${dir[$1-$side]}"
        "start_federated_$1" $side
        await_port "$1-$side"
    done
}
stop_pair() {
    stop "$1-home"
    stop "$1-away"
    stop_names
}

start_federated_stanzad() {
    local server=stanzad-$1 home config domain user password
    home=${dir[$server]} config=${dir[$server]}/stanzad.toml
    mkdir -p "$home/certs"
    [ -d "$home/data" ] || install -d -m 700 "$home/data"
    cat > "$config" <<CONF
[server]
data = "$home/data"
shards = $SHARDS
control = "$home/control.sock"
[listen]
c2s = ["127.0.0.1:${port[$server]}"]
c2s_tls = []
s2s = ["127.0.0.1:$(federation_port stanzad "$1" s2s)"]
s2s_tls = []
[tls]
certificates = "$home/certs"
[dns]
servers = ["$NAMES:53"]
$(stanzad_settings)
CONF
    federation_domains "$1" | while read -r domain; do
        echo "[domain.\"$domain\"]"
        cp -p "$federation/$1.crt" "$home/certs/$domain.crt"
        cp -p "$federation/$1.key" "$home/certs/$domain.key"
    done >> "$config"
    if [ ! -e "$home/ready-$LINKS-$PAIRS_OF_SERVERS" ]; then
        federation_accounts "$1" | while read -r user domain password; do
            echo "$password" | "$STANZAD" account add --config "$config" "$user@$domain" >/dev/null 2>&1 ||
                true
        done
        touch "$home/ready-$LINKS-$PAIRS_OF_SERVERS"
    fi
    SSL_CERT_FILE=$federation/ca.crt nice -n "$NICE" "$STANZAD" run --config "$config" \
        >>"$home.log" 2>&1 &
    pid[$server]=$!
}

start_federated_prosody() {
    local server=prosody-$1 home domain user password accounts root=${PEERS_ROOT:-}
    home=${dir[$server]}
    [ "$(id -u)" = 0 ] || die "rows of two Prosodys need root"
    federation_accounts "$1" | while read -r user domain password; do
        accounts=$home/data/${domain//./%2e}/accounts
        mkdir -p "$accounts"
        # Hashed by Prosody at the account's first login.
        [ -e "$accounts/$user.dat" ] ||
            echo "return { [\"password\"] = \"$password\" };" > "$accounts/$user.dat"
    done
    cat > "$home/prosody.cfg.lua" <<CONF
pidfile = "$home/prosody.pid"
data_path = "$home/data"
daemonize = false
run_as_root = true
network_backend = "epoll"
gc = { mode = "${PROSODY_GC:-generational}" }
use_ipv6 = false
modules_enabled = {
    "roster", "saslauth", "tls", "disco", "ping", "dialback", "s2s", "s2s_auth_certs", "s2s_bidi"
}
authentication = "internal_hashed"
password_hash = "SHA-256"
storage = "internal"
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = true
c2s_interfaces = { "127.0.0.1" }
c2s_ports = { ${port[$server]} }
c2s_direct_tls_ports = { }
s2s_interfaces = { "127.0.0.1" }
s2s_ports = { $(federation_port prosody "$1" s2s) }
s2s_direct_tls_ports = { }
ssl = { certificate = "$federation/$1.crt", key = "$federation/$1.key", cafile = "$federation/ca.crt" }
log = { warn = "$home/prosody.log" }
CONF
    federation_domains "$1" | sed 's/.*/VirtualHost "&"/' >> "$home/prosody.cfg.lua"
    # shellcheck disable=SC2016 # the inner shell expands these
    local resolving='touch "$1/etc/resolv.conf" && mount --bind "$2" "$1/etc/resolv.conf" &&
        shift 2 && exec "$@"'
    unshare --mount sh -c "$resolving" resolving "$root" "$federation/resolv.conf" \
        "${peer[@]}" prosody -F --config "$home/prosody.cfg.lua" >>"$home.log" 2>&1 &
    pid[$server]=$!
}

# run_pair KIND ROW GOAL PEER_DOMAIN ...: one run, with senders at home and receivers away.
run_pair() {
    kill -0 "${pid[$1-away]}" 2>/dev/null || die "$1-away has ended; see ${dir[$1-away]}.log"
    DOMAIN=home.example run "$1-home" "$1" "$2" "$3" --peer-pid "${pid[$1-away]}" \
        --peer-address "127.0.0.1:${port[$1-away]}" --peer-domain "$4" "${@:5}"
}

federation_rows() {
    local i kind kinds=()
    wants_federation || return 0
    for kind in "${servers[@]}"; do
        [ "$kind" = ejabberd ] || kinds+=("$kind")
    done
    federation_certificates
    [[ " ${kinds[*]} " != *" prosody "* ]] ||
        echo "prosody's resolver: lua-unbound $(package lua5.4-unbound lua-unbound)" | tee -a "$head" >&2
    for ((i = 0; i < RUNS; i++)); do
        for kind in "${kinds[@]}"; do
            start_pair "$kind"
            # First of all, while the servers have not met.
            ! wants servers-first ||
                run_pair "$kind" "two servers: first message, $LINKS links" "" "c{}.away.example" \
                    first --links "$LINKS"
            ! wants servers-window-1 ||
                run_pair "$kind" "two servers: messages, $PAIRS_OF_SERVERS pairs, 1 outstanding" \
                    ">= 4" away.example messages --pairs "$PAIRS_OF_SERVERS" --window 1
            ! wants servers-window-10 ||
                run_pair "$kind" "two servers: messages, $PAIRS_OF_SERVERS pairs, 10 outstanding" \
                    ">= 4" away.example messages --pairs "$PAIRS_OF_SERVERS" --window 10
            stop_pair "$kind"
        done
    done
}
