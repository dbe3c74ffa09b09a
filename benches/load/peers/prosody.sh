# shellcheck shell=bash disable=SC2034,SC2153,SC2154,SC2004
# Prosody for compare.sh, with what makes it cheapest: epoll without a library between, the
# generational collector (the default one costs twice as much), and only the modules the load needs.

describe_prosody() {
    echo "Prosody $(package prosody), Lua $(package lua5.4), OpenSSL $(package libssl3t64 libssl3);" \
        "network_backend = epoll, gc mode = ${PROSODY_GC:-generational}, storage = internal," \
        "modules roster saslauth tls disco ping, no mod_limits"
}

start_prosody() {
    "${peer[@]}" sh -c 'command -v prosody' >/dev/null ||
        die "no prosody: apt-get install --no-install-recommends prosody"
    local home=${dir[$1]} accounts user password
    accounts=$home/data/example%2eorg/accounts
    mkdir -p "$accounts"
    while read -r user password; do
        # Hashed by Prosody at the account's first login.
        [ -e "$accounts/$user.dat" ] ||
            echo "return { [\"password\"] = \"$password\" };" > "$accounts/$user.dat"
    done < <(accounts)
    cat > "$home/prosody.cfg.lua" <<CONF
pidfile = "$home/prosody.pid"
data_path = "$home/data"
daemonize = false
run_as_root = true
network_backend = "epoll"
gc = { mode = "${PROSODY_GC:-generational}" }
modules_enabled = { "roster", "saslauth", "tls", "disco", "ping" }
modules_disabled = { "s2s", "s2s_auth_certs" }
authentication = "internal_hashed"
password_hash = "SHA-256"
storage = "internal"
c2s_require_encryption = true
c2s_interfaces = { "127.0.0.1" }
c2s_ports = { ${port[$1]} }
c2s_direct_tls_ports = { }
ssl = { certificate = "$work/example.org.crt", key = "$work/example.org.key" }
log = { warn = "$home/prosody.log" }
VirtualHost "example.org"
CONF
    "${peer[@]}" prosody -F --config "$home/prosody.cfg.lua" >>"$home.log" 2>&1 &
    pid[$1]=$!
    await_port "$1"
}
