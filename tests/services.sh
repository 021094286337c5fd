#!/usr/bin/env bash
# Starts and stops private, throw-away RabbitMQ and Postgres servers on loopback, from whatever
# installation the machine has. Used by run.sh for the whole suite, and by tests that take a server down.
#
#   tests/services.sh rabbitmq|postgres start DIR   (DIR: a new directory, or that of an earlier instance)
#   tests/services.sh rabbitmq|postgres stop  DIR
#   tests/services.sh rabbitmq|postgres kill  DIR   (SIGKILL: `start` brings back what was on the disk)
#   tests/services.sh rabbitmq|postgres signal DIR STOP|CONT
#   tests/services.sh rabbitmq ctl DIR ARGUMENT ... (rabbitmqctl on this instance)
#   tests/services.sh have rabbitmq|postgres        (exit 0 when its programs are installed)
#
# `start` returns when the server answers; its port stands in DIR/port and stays the same. `stop` keeps DIR.
set -euo pipefail

rabbitmq_home() {
  local home
  for home in /usr/lib/rabbitmq /opt/rabbitmq "${RABBITMQ_HOME:-/nonexistent}" \
    "$(dirname "$(dirname "$(command -v rabbitmqctl 2>/dev/null || echo /nonexistent/x/y)")")/lib/rabbitmq"; do
    for bin in "$home/bin" "$home/sbin"; do
      if [ -x "$bin/rabbitmq-server" ]; then echo "$bin"; return; fi
    done
  done
  return 1
}

postgres_bin() {
  local bin
  for bin in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) "$(dirname "$(command -v initdb 2>/dev/null || echo /nonexistent/x)")"; do
    if [ -x "$bin/initdb" ] && [ -x "$bin/pg_ctl" ]; then echo "$bin"; return; fi
  done
  return 1
}

# Writes a port to DIR/port that is free, with the two behind it. Below the range that outgoing connections take.
choose_port() {
  local port
  if [ -s "$1/port" ]; then return; fi
  while :; do
    port=$((20000 + 3 * (RANDOM % 4000)))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && ! (exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))") 2>/dev/null &&
      ! (exec 3<>"/dev/tcp/127.0.0.1/$((port + 2))") 2>/dev/null; then
      echo "$port" >"$1/port"
      return
    fi
  done
}

# Postgres refuses to run as root: then its own user runs it.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then
    if command -v setpriv >/dev/null; then
      setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"
    else
      su postgres -s /bin/sh -c "$(printf '%q ' "$@")"
    fi
  else
    "$@"
  fi
}

rabbitmq_env() {
  local dir=$1
  export HOME=$dir RABBITMQ_NODENAME="posthaste-test-$(basename "$dir" | tr -dc a-zA-Z0-9)@localhost"
  export RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/log RABBITMQ_PID_FILE=$dir/pid
  export RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins RABBITMQ_CONF_ENV_FILE=$dir/env.conf
  export RABBITMQ_CONFIG_FILE=$dir/rabbitmq RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none"
  export ERL_CRASH_DUMP=$dir/erl_crash.dump
  export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 ERL_EPMD_ADDRESS=127.0.0.1
  RABBITMQ_NODE_PORT=$(cat "$dir/port") && export RABBITMQ_NODE_PORT
  export RABBITMQ_DIST_PORT=$((RABBITMQ_NODE_PORT + 1))
  # A name server of its own, so that stopping it harms nobody.
  export ERL_EPMD_PORT=$((RABBITMQ_NODE_PORT + 2))
}

rabbitmq_start() {
  local dir=$1 port bin
  bin=$(rabbitmq_home) || { echo "RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)" >&2; exit 3; }
  mkdir -p "$dir"/data "$dir"/log
  choose_port "$dir"
  port=$(cat "$dir/port")
  echo '[].' >"$dir/enabled_plugins"
  touch "$dir/env.conf"
  # Nothing here is worth a disk alarm.
  printf 'disk_free_limit.absolute = 10MB\nlog.console = false\n' >"$dir/rabbitmq.conf"
  rabbitmq_env "$dir"
  "$bin/rabbitmq-server" >"$dir/log/out" 2>&1 </dev/null &
  for _ in $(seq 1 600); do
    if [ -s "$dir/pid" ] && "$bin/rabbitmqctl" -q status >/dev/null 2>&1 && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      return
    fi
    sleep 0.1
  done
  echo "RabbitMQ did not start; its log:" >&2
  tail -n 40 "$dir"/log/* >&2
  exit 1
}

rabbitmq_stop() {
  local dir=$1 bin pid
  bin=$(rabbitmq_home)
  rabbitmq_env "$dir"
  pid=$(cat "$dir/pid" 2>/dev/null || true)
  if [ -n "$pid" ]; then
    # Not the hard way: RabbitMQ 3.10 may not find the leader of a young quorum queue again after that.
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 1 400); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$dir/pid"
  epmd -port "$ERL_EPMD_PORT" -kill >/dev/null 2>&1 || true
}

postgres_start() {
  local dir=$1 port bin
  bin=$(postgres_bin) || { echo "Postgres is not installed (Debian: apt-get install postgresql)" >&2; exit 3; }
  mkdir -p "$dir"
  choose_port "$dir"
  port=$(cat "$dir/port")
  if [ ! -d "$dir/data" ]; then
    if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; fi
    as_postgres "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >"$dir/initdb.log" 2>&1 ||
      { cat "$dir/initdb.log" >&2; exit 1; }
  fi
  # Killing the server loses nothing without fsync; only a crash of the machine would.
  as_postgres "$bin/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/log" \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_connections=200" start >/dev/null ||
    { tail -n 40 "$dir/log" >&2; exit 1; }
}

postgres_stop() {
  local dir=$1 bin
  bin=$(postgres_bin)
  as_postgres "$bin/pg_ctl" -D "$dir/data" -w -t 60 -m immediate stop >/dev/null 2>&1 || true
}

# The server's processes: the first, and those that it started.
processes() {
  local pid
  case $1 in
    rabbitmq) pid=$(cat "$2/pid") ;;
    postgres) pid=$(head -n 1 "$2/data/postmaster.pid") ;;
  esac
  echo "$pid"
  pgrep -P "$pid" || true
}

server_kill() {
  local all
  all=$(processes "$1" "$2")
  # shellcheck disable=SC2086 # one word for each
  kill -KILL $all 2>/dev/null || true
  for pid in $all; do
    for _ in $(seq 1 400); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.05
    done
  done
  if [ "$1" = rabbitmq ]; then rm -f "$2/pid"; fi
}

server_signal() {
  local all
  # The first before it is asked for the others: frozen, it starts no more.
  all=$(processes "$1" "$2")
  kill "-$3" "${all%%$'\n'*}"
  all=$(processes "$1" "$2")
  # shellcheck disable=SC2086 # one word for each; one may have ended meanwhile
  kill "-$3" $all 2>/dev/null || true
}

rabbitmq_ctl() {
  local dir=$1 bin
  shift
  bin=$(rabbitmq_home)
  rabbitmq_env "$dir"
  "$bin/rabbitmqctl" -q "$@"
}

case "${1:-} ${2:-}" in
  "rabbitmq start") rabbitmq_start "$3" ;;
  "rabbitmq stop") rabbitmq_stop "$3" ;;
  "postgres start") postgres_start "$3" ;;
  "postgres stop") postgres_stop "$3" ;;
  "rabbitmq kill" | "postgres kill") server_kill "$1" "$3" ;;
  "rabbitmq signal" | "postgres signal") server_signal "$1" "$3" "$4" ;;
  "rabbitmq ctl") rabbitmq_ctl "${@:3}" ;;
  "have rabbitmq") rabbitmq_home >/dev/null ;;
  "have postgres") postgres_bin >/dev/null ;;
  *) sed -n '2,14p' "$0" >&2; exit 2 ;;
esac
