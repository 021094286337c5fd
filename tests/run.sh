#!/usr/bin/env bash
# Runs all tests. RabbitMQ and Postgres come from POSTHASTE_TEST_AMQP_URL and POSTHASTE_TEST_POSTGRES_URL
# where these are set; else private throw-away servers are started from installed programs, Debian's
# packages being installed first where they are missing and this user may. Leaves nothing running.
# Arguments go to `cargo test` (such as a test's name).
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/posthaste-tests.XXXXXX")
chmod 755 "$work"
# Servers of single tests are kept here too, so that they end even when the tests are interrupted.
export POSTHASTE_TEST_DIR=$work
finish() {
  find "$work" -maxdepth 3 -name port | while read -r port; do
    dir=$(dirname "$port")
    tests/services.sh "$(basename "$dir" | sed 's/-.*//')" stop "$dir" || true
  done
  rm -rf "$work"
}
trap finish EXIT

install_packages() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing $*"
    # The packages start servers of their own on the standard ports; these tests do not use them.
    printf '#!/bin/sh\nexit 101\n' >"$work/policy" && chmod +x "$work/policy"
    [ -e /usr/sbin/policy-rc.d ] || { cp "$work/policy" /usr/sbin/policy-rc.d; mine=1; }
    (apt-get install -y -qq "$@" || { apt-get update -qq && apt-get install -y -qq "$@"; }) >"$work/apt.log" 2>&1 ||
      { cat "$work/apt.log" >&2; exit 1; }
    [ -z "${mine:-}" ] || rm -f /usr/sbin/policy-rc.d
  else
    echo "missing: $* (install them, or set POSTHASTE_TEST_AMQP_URL and POSTHASTE_TEST_POSTGRES_URL)" >&2
    exit 1
  fi
}

missing=()
tests/services.sh have rabbitmq || missing+=(rabbitmq-server)
tests/services.sh have postgres || missing+=(postgresql)
command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
command -v npm >/dev/null || missing+=(nodejs npm)
command -v prometheus >/dev/null && command -v promtool >/dev/null || missing+=(prometheus)
command -v chromium >/dev/null || missing+=(chromium)
command -v pgrep >/dev/null || missing+=(procps)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"

if [ -z "${POSTHASTE_TEST_AMQP_URL:-}" ]; then
  tests/services.sh rabbitmq start "$work/rabbitmq"
  port=$(cat "$work/rabbitmq/port")
  export POSTHASTE_TEST_AMQP_URL="amqp://guest:guest@127.0.0.1:$port"
fi
if [ -z "${POSTHASTE_TEST_POSTGRES_URL:-}" ]; then
  tests/services.sh postgres start "$work/postgres"
  port=$(cat "$work/postgres/port")
  export POSTHASTE_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres"
fi

# Other people's libraries, to check what we send and to enqueue as others would.
tools=${CARGO_TARGET_DIR:-target}/test-tools
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
if ! cmp -s tests/interop/requirements.txt "$tools/requirements.txt"; then
  python3 -m venv --clear "$tools/python"
  "$tools/python/bin/pip" install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
  cp tests/interop/requirements.txt "$tools/requirements.txt"
fi
if ! cmp -s tests/interop/package.json "$tools/installed.json"; then
  rm -f "$tools/package-lock.json"
  cp tests/interop/package.json "$tools/package.json"
  npm install --prefix "$tools" --silent --no-audit --no-fund >"$work/npm.log" 2>&1 || { cat "$work/npm.log" >&2; exit 1; }
  # Novu's providers come alone: most of their dependencies (355 MB) are for gateways that are not tested.
  novu=$(node -p 'require("./tests/interop/package.json").withoutItsDependencies')
  archive=$(npm pack "$novu" --pack-destination "$work" --silent)
  mkdir -p "$tools/node_modules/@novu/providers"
  tar -xzf "$work/$archive" --strip-components=1 -C "$tools/node_modules/@novu/providers"
  cp tests/interop/package.json "$tools/installed.json"
fi
export POSTHASTE_TEST_PYTHON="$tools/python/bin/python" POSTHASTE_TEST_NODE_PATH="$tools/node_modules"

# Building takes as long as it takes; a test that hangs must not. All tests together take a quarter of this limit.
cargo test --workspace --locked --no-run
timeout --verbose --kill-after=30 "${POSTHASTE_TEST_SECONDS:-2400}" cargo test --workspace --locked --no-fail-fast "$@"
