# shellcheck shell=bash
# What `run` and `federate` do first; they source this, from the top folder of the repository, with
# `here` as the path of this folder. It sets `target`, `tools`, and `only` from the arguments.
target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/interop
mkdir -p "$tools"
started=$SECONDS

say() { printf '== %s (at %d s)\n' "$*" "$((SECONDS - started))"; }

only=
for ((i = 1; i <= $#; i++)); do
  [[ ${!i} == --only=* ]] && only=${!i#--only=}
  [[ ${!i} == --only ]] && ((i < $#)) && i=$((i + 1)) && only=${!i}
done

# Runs a step with a limit; its output is shown only when it fails.
quietly() {
  local limit=$1 log
  shift
  log=$(mktemp)
  if ! timeout "$limit" "$@" >"$log" 2>&1 </dev/null; then
    cat "$log"
    rm -f "$log"
    printf 'interop: this failed, or took more than %s: %s\n' "$limit" "$*" >&2
    exit 1
  fi
  rm -f "$log"
}

# Installs those of these Debian packages that are not there. Debian's mirrors fail now and then.
packages() {
  local package missing=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "apt: ${missing[*]}"
  quietly 120 apt-get -o Acquire::Retries=3 update
  quietly 400 env DEBIAN_FRONTEND=noninteractive \
    apt-get -o Acquire::Retries=3 install -y --no-install-recommends "${missing[@]}"
}

# A stamp holds what was installed; another list means a new installation.
fresh() { cmp -s "$1" "$tools/$2.stamp"; }
stamp() { cp "$1" "$tools/$2.stamp"; }

# What the suites are written in, and the libraries for Python.
python_libraries() {
  fresh "$here/requirements.txt" venv && return 0
  say 'pip: slixmpp, nbxmpp, pyOpenSSL, pexpect, Node'
  rm -rf "$tools/venv"
  # Debian's own python, whatever else is in PATH: PyGObject is built for it.
  quietly 60 /usr/bin/python3 -m venv --system-site-packages "$tools/venv"
  quietly 300 "$tools/venv/bin/pip" install --no-deps --only-binary :all: --ignore-installed \
    -r "$here/requirements.txt"
  stamp "$here/requirements.txt" venv
}

# The server's binary.
server() {
  [[ -z ${STANZAD:-} ]] || return 0
  STANZAD=$target/release/stanzad
  [[ -x $STANZAD ]] || { say 'cargo: stanzad'; quietly 1500 cargo build --locked --release; }
}

export PYTHONDONTWRITEBYTECODE=1
export PATH=$tools/venv/bin:$PATH
