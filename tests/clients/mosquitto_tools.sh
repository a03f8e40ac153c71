#!/bin/bash
# Flows of mosquitto_pub, mosquitto_sub and mosquitto_rr through a broker of their own.
#
#     mosquitto_tools.sh BROKER_BINARY
#
# Each flow is a function `flow_...`, run once for each protocol version it names in FLOWS. A flow has its own topics,
# so that all can share one broker. Prints a line for each, then `N passed, N failed`; exits with 1 if any failed.
set -u
source "$(dirname "$0")/common.sh"

binary=${1:?usage: mosquitto_tools.sh BROKER_BINARY}
directory=$(mktemp -d)
chmod 755 "$directory"
broker=
trap 'kill "$broker" 2>/dev/null; rm -rf "$directory"' EXIT

start_broker() {
    local attempt
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        printf 'listener %s 127.0.0.1\nallow_anonymous true\nlog_type all\n' "$port" >"$directory/midge.conf"
        "$binary" -c "$directory/midge.conf" 2>"$directory/log" &
        broker=$!
        wait_until broker_is_open && return 0
        wait "$broker"
    done
    cat "$directory/log"
    echo "the broker did not open its port"
    exit 1
}

pub() { timeout "$deadline" mosquitto_pub -h 127.0.0.1 -p "$port" -V "$version" "$@"; }
sub() { timeout "$deadline" mosquitto_sub -h 127.0.0.1 -p "$port" -V "$version" "$@"; }
rr() { timeout "$deadline" mosquitto_rr -h 127.0.0.1 -p "$port" -V "$version" "$@"; }

# Starts a subscriber with its own client identifier in the background, and waits until it is subscribed.
# What it receives is in $output when `received` returns.
listen() {
    local id="listener-$((++listeners))"
    output="$directory/$id"
    sub -i "$id" "$@" >"$output" 2>&1 &
    listener=$!
    wait_until grep -q "Sending SUBACK to $id\$" "$directory/log"
}

# Waits for the subscriber to end, as -C makes it, and compares what it received.
received() {
    wait "$listener"
    same "$1" "$(cat "$output")"
}

flow_every_qos() {
    local qos
    for qos in 0 1 2; do
        listen -t "$topic/$qos" -q "$qos" -C 3 -F '%t %q %p' || return
        pub -t "$topic/$qos" -q 0 -m zero && pub -t "$topic/$qos" -q 1 -m one &&
            pub -t "$topic/$qos" -q 2 -m two || return
        received "$(lines "$topic/$qos 0 zero" "$topic/$qos $((qos < 1 ? qos : 1)) one" \
            "$topic/$qos $qos two")" || return
    done
}

flow_retained() {
    pub -t "$topic" -m old -r -q 1 && pub -t "$topic" -m new -r -q 1 || return
    same "1 new" "$(sub -t "$topic" -q 1 -C 1 -F '%r %p')" || return
    pub -t "$topic" -n -r -q 1 || return
    listen -t "$topic" -C 1 -F '%r %p' || return
    pub -t "$topic" -m live -r || return
    received "0 live"
}

flow_remove_retained() {
    pub -t "$topic/a" -m a -r && pub -t "$topic/b" -m b -r || return
    sub -t "$topic/#" --remove-retained --retained-only -W 1 -v >/dev/null
    same "" "$(sub -t "$topic/#" --retained-only -W 1)"
}

flow_lines_and_repeat() {
    listen -t "$topic" -q 1 -C 6 || return
    lines first second third | pub -t "$topic" -q 1 -l || return
    pub -t "$topic" -q 1 -m again --repeat 3 || return
    received "$(lines first second third again again again)"
}

flow_file_and_stdin() {
    head -c 200000 /dev/zero | tr '\0' x >"$directory/file"
    listen -t "$topic" -q 2 -C 2 -N || return
    pub -t "$topic" -q 2 -f "$directory/file" && pub -t "$topic" -q 2 -s <"$directory/file" || return
    wait "$listener"
    cmp "$output" <(cat "$directory/file" "$directory/file")
}

flow_persistent_session() {
    local id="sleeper-$version" keep=(-c -q 1)
    sub -i "$id" -t "$topic" "${keep[@]}" -E || return
    pub -t "$topic" -q 1 -m one && pub -t "$topic" -q 2 -m two || return
    same "$(lines one two)" "$(sub -i "$id" -t "$topic" "${keep[@]}" -C 2)"
}

flow_wills() {
    local victim
    listen -t "$topic/will" -q 1 -C 1 -F '%q %p' || return
    mosquitto_sub -h 127.0.0.1 -p "$port" -V "$version" -i "victim-$version" -t "$topic" \
        --will-topic "$topic/will" --will-payload gone --will-qos 1 &
    victim=$!
    wait_until grep -q "Sending SUBACK to victim-$version\$" "$directory/log" || return
    kill -KILL "$victim"
    wait "$victim" 2>/dev/null
    received "1 gone"
}

flow_wildcards() {
    listen -t "$topic/+/end" -t "$topic/deep/#" -C 3 -F '%t' || return
    pub -t "$topic/a/end" -m x && pub -t "$topic/a/b/end" -m x && pub -t "$topic/deep" -m x &&
        pub -t "$topic/deep/er" -m x || return
    received "$(lines "$topic/a/end" "$topic/deep" "$topic/deep/er")"
}

flow_filtered_out() {
    listen -t "$topic/#" -T "$topic/not/#" -C 1 -F '%t' || return
    pub -t "$topic/not/this" -m x && pub -t "$topic/this" -m x || return
    received "$topic/this"
}

flow_take_over() {
    local id="twin-$version"
    mosquitto_sub -h 127.0.0.1 -p "$port" -V "$version" -i "$id" -t "$topic/never" >/dev/null 2>&1 &
    local old=$!
    wait_until grep -q "Sending SUBACK to $id\$" "$directory/log" || return
    same kept "$(pub -t "$topic" -m kept -r && sub -i "$id" -t "$topic" -C 1)" || return
    kill "$old" 2>/dev/null
    wait "$old" 2>/dev/null
    return 0
}

flow_shared() {
    listen -t "\$share/group/$topic" -q 1 -C 2 || return
    local first_listener=$listener first_output=$output
    listen -t "\$share/group/$topic" -q 1 -C 2 || return
    lines 1 2 3 4 | pub -t "$topic" -q 1 -l || return
    wait "$first_listener" "$listener"
    same "$(lines 1 2 3 4)" "$(sort "$first_output" "$output")"
}

flow_properties() {
    listen -t "$topic" -q 1 -C 1 -F '%C|%R|%D|%P|%E|%p' || return
    pub -t "$topic" -q 1 -m x -D publish content-type text/plain -D publish response-topic r/t \
        -D publish correlation-data data -D publish user-property k v \
        -D publish message-expiry-interval 0 || return
    wait "$listener"
    grep -q '^text/plain|r/t|data|k:v|' "$output" && return 0
    cat "$output"
    return 1
}

flow_topic_alias() {
    listen -t "$topic" -C 3 || return
    pub -t "$topic" -m x -D publish topic-alias 1 --repeat 3 || return
    received "$(lines x x x)"
}

flow_subscription_options() {
    pub -t "$topic" -m old -r || return
    listen -t "$topic" --retain-as-published -D subscribe subscription-identifier 7 -C 2 -F '%r %p' ||
        return
    pub -t "$topic" -m new -r || return
    received "$(lines '1 old' '1 new')"
}

flow_request_and_response() {
    listen -t "$topic/ask" -C 1 -F '%R' || return
    rr -t "$topic/ask" -e "$topic/answer" -m question >"$directory/answer" 2>&1 &
    local asker=$!
    received "$topic/answer" || return
    pub -t "$topic/answer" -m reply || return
    wait "$asker"
    same reply "$(cat "$directory/answer")"
}

flow_user_without_password_file() {
    # Without a password file, a user name is only a name.
    pub -t "$topic" -u user -P secret -m x -q 1
}

# The flows, and the versions in which each is run.
FLOWS="
every_qos mqttv31 mqttv311 mqttv5
retained mqttv31 mqttv311 mqttv5
remove_retained mqttv311 mqttv5
lines_and_repeat mqttv31 mqttv311 mqttv5
file_and_stdin mqttv31 mqttv311 mqttv5
persistent_session mqttv31 mqttv311 mqttv5
wills mqttv31 mqttv311 mqttv5
wildcards mqttv31 mqttv311 mqttv5
filtered_out mqttv311 mqttv5
take_over mqttv31 mqttv311 mqttv5
shared mqttv311 mqttv5
user_without_password_file mqttv31 mqttv311 mqttv5
properties mqttv5
topic_alias mqttv5
subscription_options mqttv5
request_and_response mqttv5
"

listeners=0
start_broker
run_flows "$FLOWS"
