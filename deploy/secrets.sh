#!/usr/bin/env bash
# Makes the secrets that deploy/compose.production.yml and deploy/local.sh use: a file each, in the folder FOLDER.
#
#   deploy/secrets.sh [FOLDER]        FOLDER is deploy/secrets if it is not given
#
# A file that is there stays as it is: run it again whenever you like. Two files are yours to write, from Clerk's
# dashboard: it names those that are missing, and exits with 1. Back the folder up where you keep other secrets.
set -euo pipefail
unset CDPATH # or cd may go elsewhere

folder="${1:-$(dirname "${BASH_SOURCE[0]}")/secrets}"
umask 077
mkdir -p "$folder"
chmod 700 "$folder" # keeps out other users of this machine; the files are readable for the users in the containers
cd "$folder"

# keep NAME COMMAND… writes what the command prints to a file, whole or not at all, unless it is there.
keep() {
  local name="$1"
  shift
  if [[ -f $name && -s $name ]]; then return; fi
  if [[ -e $name ]]; then # a folder is what Docker makes where the file to mount is missing
    printf '%s\n' "remove $PWD/$name: it is no file, or it is empty" >&2
    exit 1
  fi
  rm -f ".$name" # of a run that was cut off, which may not be written to
  "$@" >".$name"
  chmod 444 ".$name"
  mv ".$name" "$name"
}

# shellcheck disable=SC2317 # keep calls them
# hex prints as many random bytes, as two digits each: what needs no quotes in a URI or a configuration.
hex() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

for name in admin_token inngest_event_key postgres_password redis_password mongo_root_password mongo_password; do
  keep "$name" hex 24
done
keep inngest_signing_key hex 32 # hexadecimal: Inngest takes no other
keyfile() { head -c 756 /dev/urandom | base64 | tr -d '\n'; }
keep mongo_keyfile keyfile
keep mongodb_uri printf 'mongodb://clerksync:%s@mongo:27017/clerksync?replicaSet=rs0' "$(cat mongo_password)"

missing=0
need() {
  if [[ ! -f $1 || ! -s $1 ]]; then
    printf '%s: %s\n' "write $PWD/$1" "$2" >&2
    missing=1
  fi
}
need clerk_webhook_signing_secret "the endpoint's Signing Secret, whsec_…, from Clerk's dashboard (Webhooks)"
need clerk_secret_key "the secret key of Clerk's API, sk_live_…, from Clerk's dashboard (API keys)"
for name in clerk_webhook_signing_secret clerk_secret_key; do
  if [[ -f $name ]]; then chmod 444 "$name"; fi
done
exit "$missing"
