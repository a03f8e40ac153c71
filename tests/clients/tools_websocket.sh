#!/bin/bash
# Our own pub and sub through WebSocket, against a server of the package `ws` in front of the broker.
#
#     tools_websocket.sh BROKER_BINARY NODE_MODULES
#
# Each flow is a function `flow_...`, run once for each protocol version it names in FLOWS. Prints a line for each, then
# `N passed, N failed`; exits with 1 if any failed.
set -u
source "$(dirname "$0")/common.sh"

binary=${1:?usage: tools_websocket.sh BROKER_BINARY NODE_MODULES}
modules=${2:?usage: tools_websocket.sh BROKER_BINARY NODE_MODULES}
directory=$(mktemp -d)
broker= bridge=
trap 'kill "$broker" "$bridge" 2>/dev/null; rm -rf "$directory"' EXIT

port=$(free_port)
printf '%s\n' "listener $port 127.0.0.1" "allow_anonymous true" "max_queued_messages 0" "log_type subscribe" "log_type debug" >"$directory/midge.conf"
"$binary" -c "$directory/midge.conf" 2>"$directory/log" &
broker=$!
node "$(dirname "$0")/websocket_bridge.cjs" "$modules" "$port" >"$directory/port" &
bridge=$!
if ! wait_until broker_is_open || ! wait_until test -s "$directory/port"; then
    echo "the broker or the bridge does not listen"
    cat "$directory/log"
    exit 1
fi
websocket=$(<"$directory/port")

# Starts a subscriber, and waits until the broker has told it so. Its arguments are sub's.
subscribe() {
    local before
    before=$(grep -c "Sending SUBACK" "$directory/log")
    timeout "$deadline" "$binary" sub -h 127.0.0.1 -p "$websocket" --ws -V "$version" -t "$topic" "$@" >"$directory/shown" &
    subscriber=$!
    wait_until has_more_subscribers "$before"
}

has_more_subscribers() {
    (($(grep -c "Sending SUBACK" "$directory/log") > $1))
}

publish() {
    timeout "$deadline" "$binary" pub -L "ws://127.0.0.1:$websocket/$topic" -V "$version" "$@"
}

flow_lines() {
    local qos
    for qos in 0 1 2; do
        topic="lines/$version/$qos"
        subscribe -q "$qos" -C 2001
        seq 1 2000 | publish -l -q "$qos" && publish -m end -q "$qos" && wait "$subscriber" || return
        same "$(seq 1 2000; echo end)" "$(<"$directory/shown")" || return
    done
}

flow_large_payload() {
    head -c 1500000 /dev/urandom >"$directory/large"
    subscribe -N -C 1
    publish -f "$directory/large" -q 1 && wait "$subscriber" && cmp "$directory/large" "$directory/shown"
}

flow_no_websocket_there() {
    local said
    said=$("$binary" pub -h 127.0.0.1 -p "$port" --ws -V "$version" -t a -m x 2>&1)
    same 1 "$?" && grep -q "is its listener one for WebSocket?" <<<"$said"
}

run_flows '
    lines 31 311 5
    large_payload 311 5
    no_websocket_there 311
'
