#!/usr/bin/env bash
# Loads a broker of its own, on free ports and a fresh data directory, through each protocol in turn.
# TRIVIUM_BIN names the binary; arguments are added to every load, as in: benches/load.sh --duration 30
set -euo pipefail
cd "$(dirname "$0")/.."

trivium=${TRIVIUM_BIN:-${CARGO_TARGET_DIR:-target}/release/trivium}
# The broker would take it for a setting.
unset TRIVIUM_BIN
folder=$(mktemp -d "${TMPDIR:-/tmp}/trivium-bench.XXXXXX")
trap 'kill "$broker" 2>/dev/null; wait "$broker" 2>/dev/null || true; rm -rf "$folder"' EXIT

any=127.0.0.1:0
"$trivium" serve --data-dir "$folder/data" --set log.format=json \
    --set amqp.listen=$any --set kafka.listen=$any --set mqtt.listen=$any --set mqtt.websocket.listen=$any --set http.listen=$any \
    2>"$folder/log" &
broker=$!

# The address that a protocol was given, once it is logged; connections wait there until it is served.
address() {
    for _ in $(seq 200); do
        sed -n "s/.*\"protocol\":\"$1\".*\"address\":\"\([^\"]*\)\".*/\1/p" "$folder/log" | grep . && return
        sleep 0.05
    done
    cat "$folder/log" >&2
    return 1
}

load() {
    local protocol=$1 to
    shift
    to=$(address "$protocol")
    echo
    echo "== trivium bench $protocol $*"
    "$trivium" bench "$protocol" "$@" --address "$to" --pid "$broker"
}

load amqp both --size 1024 --auto-ack "$@"
load amqp both --size 1024 --durable --persistent --confirm 500 "$@"
load kafka both --size 1024 --acks all "$@"
load mqtt both --qos 0 "$@"
load mqtt both --qos 1 "$@"
