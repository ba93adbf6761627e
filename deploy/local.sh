#!/usr/bin/env bash
# Starts on this machine, without containers, what deploy/compose.production.yml starts: PostgreSQL, Redis, Inngest, two
# replicas of clerksync and Caddy, with real keys, on 127.0.0.1 alone. For trying it out, and for tests.
#
#   MONGODB_URI=mongodb://… deploy/local.sh [FOLDER]
#
# All that it writes is in FOLDER, ./data/local if that is not given: data, logs, secrets. Without MONGODB_URI it starts
# the mongod that is on PATH. The rest is Debian's (apt-get install postgresql redis-server caddy) and Go modules.
#
#   PORT                           Caddy's, 8800 if it is not given; the others listen on the ten ports after it
#   CLERK_WEBHOOK_SIGNING_SECRET   made up if it is not given
#   CLERK_SECRET_KEY               left out if it is not given
#   CLERKSYNC, INNGEST_CLI         the programs, which are built if they are not given
#
# It prints "ready" when all of it answers. What ends is started again, as in the production file. Ctrl-C ends it.
set -euo pipefail
unset CDPATH # or cd may go elsewhere, and says so

deploy="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
port="${PORT:-8800}"
calls=$((port + 1)) replica1=$((port + 2)) replica2=$((port + 3)) inngest=$((port + 4)) gateway=$((port + 5))
grpc1=$((port + 6)) grpc2=$((port + 7)) postgres=$((port + 8)) redis=$((port + 9)) mongo=$((port + 10))

fail() {
  printf 'local.sh: %s\n' "$*" >&2
  exit 1
}

# program prints where a program is: on PATH, or where Debian keeps PostgreSQL's.
program() {
  local dir
  for dir in "" /usr/lib/postgresql/*/bin/; do
    if command -v "$dir$1"; then return; fi
  done
  fail "$1 is missing; on Debian: apt-get install postgresql redis-server caddy"
}
initdb="$(program initdb)"
postgres_server="$(program postgres)"
psql="$(program psql)"
redis_server="$(program redis-server)"
redis_cli="$(program redis-cli)"
caddy="$(program caddy)"
if [[ -z ${MONGODB_URI:-} ]]; then
  mongod="$(command -v mongod)" || fail "set MONGODB_URI to a MongoDB, or put mongod and mongosh on PATH"
  mongosh="$(command -v mongosh)" || fail "mongosh is not on PATH: it makes mongod a replica set"
fi
as_postgres=() # who refuses to run as root
if [[ $EUID == 0 ]]; then as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups); fi

folder="${1:-data/local}"
if [[ ! -e $folder/run/lock && -n $(ls -A "$folder" 2>/dev/null) ]]; then # it would replace files there
  fail "$folder has something else in it: give a FOLDER that is empty, or not there yet"
fi
mkdir -p "$(dirname "$folder")" # PostgreSQL's user must get through it
umask 077
mkdir -p "$folder/run"
folder="$(cd "$folder" && pwd)"
exec 9>"$folder/run/lock"
flock --nonblock 9 || fail "another local.sh, or what it started, still runs in $folder"
mkdir -p "$folder"/{bin,data/mongo,data/redis,data/caddy,log,secrets}

# The secrets: files as the production file has them.
secrets="$folder/secrets"
give() { # replaces what is there
  rm -f "$secrets/$1"
  printf '%s' "$2" >"$secrets/$1"
}
give mongodb_uri "${MONGODB_URI:-mongodb://127.0.0.1:$mongo/clerksync?replicaSet=rs0}"
if [[ -n ${CLERK_WEBHOOK_SIGNING_SECRET:-} ]]; then
  give clerk_webhook_signing_secret "$CLERK_WEBHOOK_SIGNING_SECRET"
elif [[ ! -s $secrets/clerk_webhook_signing_secret ]]; then
  give clerk_webhook_signing_secret "whsec_$(head -c 24 /dev/urandom | base64)"
fi
clerk=()
if [[ -n ${CLERK_SECRET_KEY:-} ]]; then
  give clerk_secret_key "$CLERK_SECRET_KEY"
  clerk=(CLERK_SECRET_KEY_FILE="$secrets/clerk_secret_key")
fi
missing="$("$deploy/secrets.sh" "$secrets" 2>&1)" || true
if [[ $missing != "" && ($missing != *clerk_secret_key:* || $missing == *$'\n'*) ]]; then fail "$missing"; fi

# The programs that are built.
inngest_cli="${INNGEST_CLI:-}"
if [[ -z $inngest_cli ]]; then
  (cd "$deploy/.." && go run ./internal/testenv/inngesttest/build)
  version="$(sed -n 's|.*image: inngest/inngest:||p' "$deploy/compose.production.yml")"
  inngest_cli="${XDG_CACHE_HOME:-$HOME/.cache}/clerksync/inngest-$version"
fi
clerksync="${CLERKSYNC:-$folder/bin/clerksync}"
if [[ -z ${CLERKSYNC:-} ]]; then (cd "$deploy/.." && go build -tags noembedded -o "$clerksync" ./cmd/clerksync); fi

# keep NAME COMMAND… runs a command, and starts it again when it ends, until it gets SIGTERM, which it hands on, or
# SIGHUP, which all get when the terminal is closed: PostgreSQL would go on.
keepers=()
keep() {
  local name="$1" child=
  shift
  (
    trap 'trap "" TERM HUP; kill "$child" || true; wait "$child" || true; exit' TERM HUP # which may come twice
    while :; do
      "$@" &
      child=$!
      echo "$child" >"$folder/run/$name.pid"
      wait "$child" || true
      echo "local.sh: $name has ended; it is started again"
      sleep 1
    done
  ) >>"$folder/log/$name.log" 2>&1 &
  keepers+=($!)
}

# answers NAME COMMAND… returns when the command succeeds.
answers() {
  local name="$1" i
  shift
  for ((i = 0; i < 240; i++)); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.25
  done
  tail -n 20 "$folder/log/$name.log" >&2
  fail "$name does not answer; see $folder/log/$name.log"
}

stop() {
  local i
  for ((i = ${#keepers[@]} - 1; i >= 0; i--)); do # first what uses the others
    kill "${keepers[i]}" 2>/dev/null || true
    wait "${keepers[i]}" 2>/dev/null || true
  done
}
trap stop EXIT
trap 'exit 0' INT TERM HUP

if [[ -z ${MONGODB_URI:-} ]]; then
  keep mongo "$mongod" --dbpath "$folder/data/mongo" --bind_ip 127.0.0.1 --port "$mongo" --replSet rs0
  answers mongo "$mongosh" --quiet --port "$mongo" --eval "
    try { rs.status() } catch (e) { rs.initiate({ _id: 'rs0', members: [{ _id: 0, host: '127.0.0.1:$mongo' }] }) }
    quit(db.hello().isWritablePrimary ? 0 : 1)"
fi

if [[ ! -e $folder/data/postgres ]]; then
  new="$folder/data/postgres.new" # until it is whole
  rm -rf "$new"
  mkdir "$new"
  cp "$secrets/postgres_password" "$folder/data/postgres.password"
  if [[ $EUID == 0 ]]; then
    chmod 711 "$folder" "$folder/data" # the way to its own folder; the secrets stay closed
    chown postgres "$new" "$folder/data/postgres.password"
  fi
  "${as_postgres[@]}" "$initdb" --pgdata "$new" --username inngest --auth scram-sha-256 \
    --pwfile "$folder/data/postgres.password" >"$folder/log/postgres.log" 2>&1 ||
    fail "PostgreSQL's user can't make a database in $new: $(tail -n 1 "$folder/log/postgres.log")" \
      "(as root, give a FOLDER that the user postgres can get to, such as /tmp/local)"
  rm -f "$folder/data/postgres.password"
  mv "$new" "$folder/data/postgres"
fi
keep postgres "${as_postgres[@]}" "$postgres_server" -D "$folder/data/postgres" -p "$postgres" \
  -c listen_addresses=127.0.0.1 -c unix_socket_directories=
sql() {
  PGPASSWORD="$(cat "$secrets/postgres_password")" \
    "$psql" --no-psqlrc --quiet --host 127.0.0.1 --port "$postgres" --username inngest --dbname "$1" --command "$2"
}
answers postgres sql postgres 'SELECT 1'
sql inngest 'SELECT 1' >/dev/null 2>&1 || sql postgres 'CREATE DATABASE inngest'

run_redis() {
  cd "$folder/data/redis"
  exec "$redis_server" - <<CONFIG
bind 127.0.0.1
port $redis
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
requirepass $(cat "$secrets/redis_password")
CONFIG
}
keep redis run_redis
ping_redis() { REDISCLI_AUTH="$(cat "$secrets/redis_password")" "$redis_cli" -p "$redis" ping | grep -qx PONG; }
answers redis ping_redis

run_inngest() {
  local password
  password="$(cat "$secrets/postgres_password")"
  cd "$folder/run"
  exec env -i PATH="$PATH" HOME="$folder/run" DO_NOT_TRACK=1 \
    INNGEST_EVENT_KEY="$(cat "$secrets/inngest_event_key")" \
    INNGEST_SIGNING_KEY="$(cat "$secrets/inngest_signing_key")" \
    INNGEST_POSTGRES_URI="postgres://inngest:$password@127.0.0.1:$postgres/inngest?sslmode=disable" \
    INNGEST_REDIS_URI="redis://:$(cat "$secrets/redis_password")@127.0.0.1:$redis" \
    INNGEST_HOST=127.0.0.1 INNGEST_PORT="$inngest" INNGEST_CONNECT_GATEWAY_PORT="$gateway" \
    INNGEST_CONNECT_GATEWAY_GRPC_PORT="$grpc1" INNGEST_CONNECT_EXECUTOR_GRPC_PORT="$grpc2" \
    "$inngest_cli" start --log-level warn
}
echo '{}' >"$folder/run/inngest.json" # without it, Inngest looks for a configuration in the folders above
keep inngest run_inngest
answers inngest "$inngest_cli" alpha doctor healthcheck --port "$inngest" --skip-connect-gateway

run_clerksync() { # PORT COMMAND
  cd "$folder/run"
  exec env -i PATH="$PATH" HOST=127.0.0.1 PORT="$1" \
    CLERK_WEBHOOK_SIGNING_SECRET_FILE="$secrets/clerk_webhook_signing_secret" "${clerk[@]}" \
    ADMIN_TOKEN_FILE="$secrets/admin_token" \
    MONGODB_URI_FILE="$secrets/mongodb_uri" \
    INNGEST_BASE_URL="http://127.0.0.1:$inngest" \
    INNGEST_EVENT_KEY_FILE="$secrets/inngest_event_key" \
    INNGEST_SIGNING_KEY_FILE="$secrets/inngest_signing_key" \
    INNGEST_SERVE_ORIGIN="http://127.0.0.1:$calls" \
    "$clerksync" "$2"
}
healthy() { (run_clerksync "$1" health); }
keep clerksync-1 run_clerksync "$replica1" serve
keep clerksync-2 run_clerksync "$replica2" serve
answers clerksync-1 healthy "$replica1"
answers clerksync-2 healthy "$replica2"

run_caddy() {
  exec env -i PATH="$PATH" XDG_DATA_HOME="$folder/data/caddy" XDG_CONFIG_HOME="$folder/data/caddy" \
    SITE_ADDRESS="http://:$port" CALLS_ADDRESS="http://:$calls" CADDY_GLOBAL_OPTIONS="default_bind 127.0.0.1" \
    CLERKSYNC_REPLICAS="127.0.0.1:$replica1 127.0.0.1:$replica2" \
    "$caddy" run --config "$deploy/Caddyfile" --adapter caddyfile
}
keep caddy run_caddy
answers caddy bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"

cat <<READY
ready
webhooks    http://127.0.0.1:$port/webhooks/clerk   signed with $secrets/clerk_webhook_signing_secret
clerksync   http://127.0.0.1:$replica1 and http://127.0.0.1:$replica2
Inngest     http://127.0.0.1:$inngest
logs        $folder/log
READY
wait
