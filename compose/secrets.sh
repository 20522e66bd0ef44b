#!/bin/sh
# Makes the secrets that are missing in the folder $1: redis_password, grafana_password, and an API key (api_key) with the
# line that lets it in (api_keys). The folder is yours alone; the files are readable, since containers see them as user 10001.
set -eu
folder=$1
mkdir -p "$folder"
chmod 700 "$folder"
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
for name in redis_password grafana_password; do
    test -s "$folder/$name" || random > "$folder/$name"
done
if ! test -s "$folder/api_keys"; then
    id=$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
    secret=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n' | cut -c 1-43)
    printf 'ok_%s_%s' "$id" "$secret" > "$folder/api_key"
    printf '%s:%s\n' "$id" "$(sha256sum < "$folder/api_key" | cut -d ' ' -f 1)" > "$folder/api_keys"
fi
chmod 444 "$folder/redis_password" "$folder/grafana_password" "$folder/api_keys"
test ! -f "$folder/api_key" || chmod 400 "$folder/api_key"
