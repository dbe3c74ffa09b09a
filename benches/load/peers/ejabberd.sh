# shellcheck shell=bash disable=SC2034,SC2153,SC2154,SC2004
# ejabberd for compare.sh, with what makes it cheapest: schedulers that do not wait busily, which
# would count as its CPU time, no shaper, tables in memory with Mnesia, and only the modules that the
# load needs.

EJABBERD_FLAGS="+K true +P 250000 ${EJABBERD_WAIT-+sbwt none +sbwtdcpu none +sbwtdio none}"

describe_ejabberd() {
    echo "ejabberd $(package ejabberd), Erlang $(package erlang-base)," \
        "OpenSSL $(package libssl3t64 libssl3); erl $EJABBERD_FLAGS, Mnesia, no shaper," \
        "modules disco ping roster"
}

start_ejabberd() {
    "${peer[@]}" sh -c 'command -v erl' >/dev/null ||
        die "no ejabberd: apt-get install --no-install-recommends ejabberd"
    local home=${dir[$1]}
    mkdir -p "$home/mnesia"
    rm -f "$home/ready"
    cat "$work/example.org.crt" "$work/example.org.key" > "$home/example.org.pem"
    cat > "$home/ejabberd.yml" <<CONF
hosts: [example.org]
loglevel: warning
certfiles: ["$home/example.org.pem"]
auth_method: internal
auth_password_format: scram
auth_scram_hash: sha256
disable_sasl_mechanisms: [digest-md5, X-OAUTH2]
listen:
  - port: ${port[$1]}
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
    accounts > "$home/accounts"
    local register="
        {ok, Accounts} = file:read_file(\"$home/accounts\"),
        [begin
            [User, Password] = binary:split(Line, <<\" \">>),
            ejabberd_auth:user_exists(User, <<\"example.org\">>) orelse
                (ok = ejabberd_auth:try_register(User, <<\"example.org\">>, Password))
         end || Line <- binary:split(Accounts, <<\"\\n\">>, [global, trim])],
        file:write_file(\"$home/ready\", <<>>)."
    # shellcheck disable=SC2086 # the flags are words
    "${peer[@]}" env HOME="$home" ERL_LIBS="/usr/lib/$(uname -m)-linux-gnu" ERL_MAX_PORTS=32000 \
        ERL_CRASH_DUMP="$home/crash.dump" EJABBERD_CONFIG_PATH="$home/ejabberd.yml" \
        EJABBERD_LOG_PATH="$home/ejabberd.log" \
        erl -noinput $EJABBERD_FLAGS -mnesia dir "\"$home/mnesia\"" -s ejabberd \
        -eval "$register" >>"$home.log" 2>&1 &
    pid[$1]=$!
    await_port "$1"
    for _ in $(seq 3000); do
        [ ! -e "$home/ready" ] || return 0
        sleep 0.1
    done
    tail -20 "$home.log" >&2
    die "ejabberd did not take the accounts"
}
