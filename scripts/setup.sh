#!/usr/bin/env bash
# Installs what Creto needs on Debian and Ubuntu and is not there yet:
#
#   gVisor's runsc, nftables, iproute2, util-linux   the sandbox and its network
#   git, python3                                     used by the demo and its agent
#   gcc, libc6-dev, make, ca-certificates            used by the build
#
#   scripts/setup.sh           install what is missing
#   scripts/setup.sh --test    the same, and faketime, rustfmt, clippy, cargo-nextest,
#                              cargo-deny, Go with golang.org/x/mod, which checks the
#                              log, Node.js, and, in the target folder, the packages of
#                              tests/requirements.txt and tests/package.json
#   scripts/setup.sh --check   only say what is missing; exit 1 if anything is
#
# Needs root or sudo only when something is missing. Running it again when
# everything is there takes no time and touches no network.
set -euo pipefail

# A runsc older than this (date of the release, as in its version) is replaced
# when the distribution's backports suite has a newer one.
readonly RUNSC_WANTED=20240101
readonly BACKPORTS_FILE=/etc/apt/sources.list.d/creto-backports.sources

# The system's tools only: a python3 of a version manager is of no use in a
# sandbox that sees /usr alone.
readonly SYSTEM_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mode=install
with_test_tools=no
for argument in "$@"; do
  case "$argument" in
    --test) with_test_tools=yes ;;
    --check) mode=check ;;
    -h | --help)
      sed -n '2,17s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *)
      echo "setup: unknown argument $argument (try --help)" >&2
      exit 2
      ;;
  esac
done

say() { echo "setup: $*"; }

fail() {
  echo "setup: $1" >&2
  shift
  for line in "$@"; do echo "       $line" >&2; done
  exit 1
}

have() { PATH="$SYSTEM_PATH" command -v "$1" >/dev/null 2>&1; }

# The release date inside `runsc version ...20250101.0...`, or 0.
runsc_date() {
  local text
  text=$(PATH="$SYSTEM_PATH" runsc --version 2>/dev/null || true)
  grep -oE '20[0-9]{6}' <<<"$text" | head -n1 || echo 0
}

distribution() { (. /etc/os-release 2>/dev/null && echo "${ID:-unknown}"); }
codename() { (. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}"); }

# --- what is missing ------------------------------------------------------

packages=()
want() { # COMMAND PACKAGE
  have "$1" || packages+=("$2")
}
want nft nftables
want ip iproute2
want unshare util-linux
want git git
want python3 python3
want cc gcc
# Only recommended by gcc, so a compiler may be there without it.
PATH="$SYSTEM_PATH" cc -E -include stdio.h -x c /dev/null >/dev/null 2>&1 || packages+=(libc6-dev)
want make make
# Steps the clock under the server, for the sweep over timestamps.
[ "$with_test_tools" = no ] || want faketime faketime
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)

runsc=present
if ! have runsc; then
  runsc=missing
elif [ "$(runsc_date)" -lt "$RUNSC_WANTED" ] && dpkg -s runsc >/dev/null 2>&1; then
  # Look for a newer one only once: when the backports suite is configured and
  # known, it has been asked already.
  apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    grep -qx "$(codename)-backports" || runsc=old
fi

# What other programs of the interface are tested with: pinned, for the tests alone.
root=$(cd "$(dirname "$0")/.." && pwd)
readonly requirements=$root/tests/requirements.txt
readonly python_packages=${CARGO_TARGET_DIR:-$root/target}/test-python
readonly node_lock=$root/tests/package-lock.json
readonly node_packages=${CARGO_TARGET_DIR:-$root/target}/test-node

test_tools=()
components=()
python=present
node=present
if [ "$with_test_tools" = yes ]; then
  if ! cmp -s "$requirements" "$python_packages/requirements.txt"; then
    python=missing
    PATH="$SYSTEM_PATH" python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
  fi
  want go golang-go
  [ -d /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog ] || packages+=(golang-golang-x-mod-dev)
  want node nodejs
  if ! cmp -s "$node_lock" "$node_packages/package-lock.json"; then
    node=missing
    want npm npm
  fi
  cargo fmt --version >/dev/null 2>&1 || components+=(rustfmt)
  cargo clippy --version >/dev/null 2>&1 || components+=(clippy)
  cargo nextest --version >/dev/null 2>&1 || test_tools+=(cargo-nextest)
  cargo deny --version >/dev/null 2>&1 || test_tools+=(cargo-deny)
fi

if [ "$mode" = check ]; then
  [ "$runsc" = present ] || packages+=("runsc ($runsc)")
  [ "$python" = present ] || test_tools+=("the packages of tests/requirements.txt")
  [ "$node" = present ] || test_tools+=("the packages of tests/package.json")
  missing=("${packages[@]}" "${components[@]}" "${test_tools[@]}")
  if [ "${#missing[@]}" -eq 0 ]; then
    say "everything is installed"
    exit 0
  fi
  printf 'setup: missing: %s\n' "${missing[@]}"
  exit 1
fi

# --- packages of the distribution -----------------------------------------

as_root=()
install_packages() {
  case "$(distribution)" in
    debian | ubuntu) ;;
    *)
      fail "this is neither Debian nor Ubuntu, so nothing was installed." \
        "Install with your own package manager: ${packages[*]-} runsc (gVisor)," \
        "then run this again."
      ;;
  esac
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 ||
      fail "missing: ${packages[*]-} runsc ($runsc), and installing needs root." \
        "Run \`su -c $0\`, or install sudo."
    as_root=(sudo)
    say "not root: asking sudo"
  fi

  say "reading the package lists"
  "${as_root[@]}" apt-get update -qq ||
    fail "apt-get update failed, so ${packages[*]-} runsc ($runsc) cannot be installed." \
      "Check the network and the sources in /etc/apt, then run this again." \
      "Without a network: install those packages from your own mirror by hand."

  if [ "${#packages[@]}" -gt 0 ]; then
    say "installing ${packages[*]}"
    apt_install "${packages[@]}"
  fi
  [ "$runsc" = present ] || install_runsc
}

apt_install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    fail "apt-get could not install: $*" "Its own message stands above."
}

# The first configured source of the running release, as
# `URI|component|file:entry`. The mirror in use is the operator's choice.
configured_source() {
  local component=$1
  apt-get indextargets \
    --format '$(REPO_URI)|$(COMPONENT)|$(SOURCESENTRY)|$(CODENAME)|$(ORIGIN)|$(RELEASE)' \
    'Created-By: Packages' |
    awk -F'|' -v name="$(codename)" -v component="$component" '
      $2 == component && $4 == name && ($5 == "Debian" || $5 == "Ubuntu") &&
        $6 !~ /-(security|updates|backports|proposed)/ { print $1 "|" $2 "|" $3; exit }'
}

# The signing key of a source entry, as the value of a `Signed-By` field: a
# path, a fingerprint or a whole key block. Empty when apt's own keyring is used.
signing_key() { # FILE:ENTRY
  local file=${1%:*} entry=${1##*:}
  case "$file" in
    *.sources)
      awk -v wanted="$entry" '
        function flush() { if (fields) { n++; if (n == wanted) printf "%s", key }; key = ""; fields = 0; inside = 0 }
        /^#/ { next }
        /^[[:space:]]*$/ { flush(); next }
        /^[^[:space:]]/ { fields = 1; inside = 0 }
        tolower($0) ~ /^signed-by:/ { inside = 1; sub(/^[^:]*:[[:space:]]*/, ""); key = $0 "\n"; next }
        inside { key = key $0 "\n" }
        END { flush() }' "$file"
      ;;
    *) # one line an entry: deb [signed-by=...] URI suite components
      sed -n "${entry}p" "$file" | grep -oE 'signed-by=[^] ]+' | cut -d= -f2- || true
      ;;
  esac
}

add_backports() {
  local suite=$1 component=main source key
  [ "$(distribution)" = ubuntu ] && component=universe
  source=$(configured_source "$component")
  if [ -z "$source" ] && [ "$component" = universe ]; then
    fail "runsc is in Ubuntu's universe, which is not among the configured sources." \
      "Run \`sudo add-apt-repository universe\`, then this again."
  fi
  [ -n "$source" ] || return 1
  key=$(signing_key "${source##*|}")
  say "adding the suite $suite in $BACKPORTS_FILE"
  {
    echo "# Written by Creto's scripts/setup.sh for a newer gVisor. Safe to remove."
    echo "Types: deb"
    echo "URIs: ${source%%|*}"
    echo "Suites: $suite"
    echo "Components: $component"
    [ -z "$key" ] || echo "Signed-By: $key"
  } | "${as_root[@]}" tee "$BACKPORTS_FILE" >/dev/null
  if ! "${as_root[@]}" apt-get update -qq \
    -o Dir::Etc::sourcelist="$BACKPORTS_FILE" -o Dir::Etc::sourceparts=- \
    -o APT::Get::List-Cleanup=0; then
    say "the mirror has no $suite; going on without it"
    "${as_root[@]}" rm -f "$BACKPORTS_FILE"
    return 1
  fi
}

version_in() { # SUITE
  apt-cache madison runsc | awk -F'|' -v suite=" $1/" 'index($3, suite) { gsub(/ /, "", $2); print $2; exit }'
}

install_runsc() {
  local suite candidate backport
  suite="$(codename)-backports"
  # A configured backports suite has a low priority, so it is asked by name.
  [ -n "$(version_in "$suite")" ] || add_backports "$suite" || true
  backport=$(version_in "$suite")
  candidate=$(apt-cache policy runsc | awk '/Candidate:/ { print $2 }')
  if [ -n "$backport" ] && { [ -z "$candidate" ] || [ "$candidate" = "(none)" ] ||
    dpkg --compare-versions "$backport" gt "$candidate"; }; then
    say "installing runsc $backport from $suite"
    apt_install "runsc=$backport"
  elif [ -n "$candidate" ] && [ "$candidate" != "(none)" ]; then
    say "installing runsc $candidate"
    apt_install runsc
  else
    fail "no configured source has runsc (gVisor)." \
      "Debian: enable the main component; Ubuntu: enable universe. Or install runsc" \
      "by hand into /usr/local/bin as its project describes, then run this again."
  fi
}

if [ "${#packages[@]}" -gt 0 ] || [ "$runsc" != present ]; then
  install_packages
fi

# --- tools for the tests --------------------------------------------------

# On a terminal cargo shows its progress; in a log its lines would only fill it.
quiet=--quiet
[ -t 2 ] && quiet=

if [ "${#components[@]}" -gt 0 ] || [ "${#test_tools[@]}" -gt 0 ]; then
  command -v cargo >/dev/null 2>&1 ||
    fail "cargo is missing; install a Rust toolchain first (rustup.rs), then run this again."
fi

if [ "${#components[@]}" -gt 0 ]; then
  command -v rustup >/dev/null 2>&1 ||
    fail "missing: ${components[*]}, and there is no rustup to add them." \
      "Install them the way the Rust toolchain was installed, then run this again."
  say "adding ${components[*]} to the Rust toolchain"
  rustup component add "${components[@]}" ||
    fail "rustup could not add ${components[*]}." "Its own message stands above."
fi

for tool in "${test_tools[@]}"; do
  say "building $tool (some minutes, once)"
  # These tools run for seconds, so the minutes that their own release profiles
  # spend on optimisation across crates are not worth it.
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    cargo install --locked ${quiet:+"$quiet"} "$tool" ||
    fail "cargo could not install $tool." \
      "Without a network, put the $tool program on the PATH by hand."
done

if [ "$python" = missing ]; then
  say "installing the packages of tests/requirements.txt in $python_packages"
  rm -rf "$python_packages"
  # Nothing built, nothing but what is pinned.
  PATH="$SYSTEM_PATH" python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-deps --require-hashes --only-binary :all: \
    --target "$python_packages" -r "$requirements" ||
    fail "pip could not install $requirements." \
      "Without a network, unpack those wheels into $python_packages by hand."
  cp "$requirements" "$python_packages/requirements.txt"
fi

if [ "$node" = missing ]; then
  say "installing the packages of tests/package.json in $node_packages"
  rm -rf "$node_packages"
  mkdir -p "$node_packages"
  cp "$root/tests/package.json" "$node_packages/"
  cp "$node_lock" "$node_packages/"
  # Nothing run, nothing but what is pinned.
  (cd "$node_packages" && npm ci --silent --ignore-scripts --no-audit --no-fund) || {
    rm -f "$node_packages/package-lock.json"
    fail "npm could not install $root/tests/package.json." \
      "Without a network, unpack those packages into $node_packages/node_modules by hand."
  }
fi

say "ready: $(PATH="$SYSTEM_PATH" runsc --version | head -n1)"
