#!/bin/bash
# Accounts, rights, TLS, Unix sockets, reloads and log files, as operators, mosquitto_pub and mosquitto_sub meet them.
#
#     accounts.sh BROKER_BINARY
#
# One broker with four listeners has the users foo, who may read `Topic`, bar, who may write it, load, who may do
# anything, and meter, whose name is in a certificate. Each flow is a function `flow_...`, run once for each protocol
# version it names in FLOWS. Prints a line for each, then `N passed, N failed`; exits with 1 if any failed.
set -u
source "$(dirname "$0")/common.sh"

binary=${1:?usage: accounts.sh BROKER_BINARY}
make_certs=$(dirname "$0")/../../conf/make-certs
readonly load=20000 # messages, more than a reload takes
# Passwords and keys are for nobody else.
umask 077
directory=$(mktemp -d)
broker=
trap 'kill "$broker" 2>/dev/null; rm -rf "$directory"' EXIT

# All of it as it is typed, and each step must succeed.
set_up() {
    "$binary" passwd -c -b "$directory/passwords" foo "foo's" &&
        "$binary" passwd -b "$directory/passwords" bar "bar's" &&
        "$binary" passwd -H sha512 -b "$directory/passwords" load "load's" &&
        "$make_certs" --client meter "$directory/certs" || return
    # Another authority's, for those who are to be refused.
    "$make_certs" --client meter "$directory/others" || return
    cat >"$directory/rights" <<END
user foo
topic read Topic
user bar
topic write Topic
user load
topic readwrite #
user meter
topic readwrite meters/meter/#
END
}

write_configuration() {
    cat >"$directory/midge.conf" <<END
user $(id -un)
password_file $directory/passwords
acl_file $directory/rights
log_dest file $directory/log
log_type all
# A subscriber that is slower than the publisher is to lose nothing either.
max_queued_messages 0

listener $port 127.0.0.1

listener 0 $directory/socket

listener $tls_port 127.0.0.1
certfile $directory/certs/server.crt
keyfile $directory/certs/server.key

listener $mutual_port 127.0.0.1
certfile $directory/certs/server.crt
keyfile $directory/certs/server.key
cafile $directory/certs/ca.crt
require_certificate true
use_identity_as_username true
END
}

start_broker() {
    local attempt
    for attempt in 1 2 3 4 5; do
        port=$(free_port) tls_port=$(free_port) mutual_port=$(free_port)
        write_configuration
        "$binary" -c "$directory/midge.conf" 2>"$directory/stderr" &
        broker=$!
        wait_until broker_is_open && return 0
        wait "$broker"
    done
    cat "$directory/stderr" "$directory/log"
    echo "the broker did not open its port"
    exit 1
}

pub() { timeout "$deadline" mosquitto_pub -V "$version" "$@"; }
sub() { timeout "$deadline" mosquitto_sub -V "$version" "$@"; }

# How a user reaches the broker and who it is.
tcp() { echo -h 127.0.0.1 -p "$port" -u "$1" -P "$1's"; }
tls() { echo -h localhost -p "$tls_port" --cafile "$directory/certs/ca.crt" -u "$1" -P "$1's"; }
unix() { echo --unix "$directory/socket" -u "$1" -P "$1's"; }
mutual() {
    echo -h localhost -p "$mutual_port" --cafile "$directory/certs/ca.crt" \
        --cert "$directory/$1/meter.crt" --key "$directory/$1/meter.key"
}

# Starts a subscriber in the background, and waits until it is subscribed. What it receives is in $output.
listen() {
    local id="listener-$((++listeners))"
    output="$directory/$id"
    mosquitto_sub -V "$version" -i "$id" "$@" >"$output" 2>&1 &
    listener=$!
    wait_until grep -qs "Sending SUBACK to $id\$" "$directory/log"
}

# Waits for the subscriber to end, as -C makes it, and compares what it received.
received() {
    wait_until ended "$listener" || kill "$listener"
    wait "$listener"
    same "$1" "$(cat "$output")"
}

ended() { ! kill -0 "$1" 2>/dev/null; }

# Expects a client not to be let in, as its standard error and its exit code say.
refused() {
    local said code
    said=$("$@" 2>&1)
    code=$?
    case $version in
        mqttv5) same 135 "$code" && grep -q 'Not authorized' <<<"$said" ;;
        *) same 5 "$code" && grep -q 'Connection Refused: not authorised' <<<"$said" ;;
    esac && return 0
    echo "$said"
    return 1
}

# Expects a client not to get as far as MQTT, and the broker to say why not: $1.
no_handshake() {
    local why=$1 before
    before=$(count "$why")
    shift
    if "$@"; then
        echo "it was let in: $*"
        return 1
    fi
    wait_until more_than "$before" "$why"
}

count() { cat "$directory/log" 2>/dev/null | grep -c "$1"; }
more_than() { (($(count "$2") > $1)); }

# Lets the broker read its files again, and waits until it says what came of it.
reload() {
    local before
    before=$(count "$1")
    kill -HUP "$broker"
    wait_until more_than "$before" "$1"
}

flow_passwords() {
    refused pub -h 127.0.0.1 -p "$port" -t Topic -m x &&
        refused pub -h 127.0.0.1 -p "$port" -u bar -P "foo's" -t Topic -m x &&
        refused pub -h 127.0.0.1 -p "$port" -u bar -t Topic -m x &&
        refused pub -h 127.0.0.1 -p "$port" -u nobody -P "bar's" -t Topic -m x &&
        refused sub -h 127.0.0.1 -p "$port" -u foo -P "bar's" -t Topic -W 2 &&
        pub $(tcp bar) -t Topic -m x -q 2
}

flow_rights() {
    local said
    listen $(tcp foo) -t '#' -q 1 -C 1 -F '%t %p' || return
    # Whom nothing reaches: bar may not read.
    listen_in_vain=$directory/vain
    sub $(tcp bar) -t '#' -W 2 >"$listen_in_vain" 2>/dev/null &
    local in_vain=$!
    pub $(tcp bar) -t Other -m "not bar's to write" -q 1 || return
    said=$(pub $(tcp foo) -t Topic -m "not foo's to write" -q 1 2>&1) || return
    case $version in
        mqttv5) same 'Warning: Publish 1 failed: Not authorized.' "$said" || return ;;
        *) same "" "$said" || return ;;
    esac
    pub $(tcp bar) -t Topic -m "bar's" -q 1 || return
    received "Topic bar's" || return
    wait "$in_vain"
    same "" "$(cat "$listen_in_vain")"
}

flow_tls() {
    listen $(tls foo) -t Topic -q 1 -C 1 || return
    pub $(tls bar) -t Topic -m encrypted -q 1 || return
    received encrypted || return
    refused pub -h localhost -p "$tls_port" --cafile "$directory/certs/ca.crt" -u bar -P wrong -t Topic -m x || return
    # The client does not know this server, and says so in an alert.
    no_handshake "disconnected: the client does not accept the certificate in certfile" \
        pub -h localhost -p "$tls_port" --cafile "$directory/others/ca.crt" -u bar -P "bar's" -t Topic -m x
}

flow_certificates() {
    listen $(mutual certs) -t 'meters/#' -q 1 -C 1 -F '%t %p' || return
    # The certificate says who it is, whatever else the client says.
    pub $(mutual certs) -u load -P "load's" -t meters/other -m "not meter's" -q 1 || return
    pub $(mutual certs) -t meters/meter/power -m 42 -q 1 || return
    received 'meters/meter/power 42' || return
    no_handshake "disconnected: the client showed no certificate" \
        pub -h localhost -p "$mutual_port" --cafile "$directory/certs/ca.crt" -t meters/meter -m x || return
    no_handshake "disconnected: foreign certificate: unknown issuer" \
        pub $(mutual others) -t meters/meter -m x
}

flow_unix_socket() {
    listen $(unix foo) -t Topic -q 1 -C 2 || return
    pub $(unix bar) -t Topic -m near -q 1 && pub $(tcp bar) -t Topic -m far -q 1 || return
    received "$(lines near far)" || return
    refused pub --unix "$directory/socket" -u bar -P wrong -t Topic -m x
}

flow_test_config() {
    same 'Configuration file is OK.' "$("$binary" --test-config -c "$directory/midge.conf" 2>/dev/null)" || return
    local said
    { cat "$directory/midge.conf" && echo 'require_certifcate true'; } >"$directory/bad.conf"
    said=$("$binary" --test-config -c "$directory/bad.conf" 2>&1)
    same 3 $? && grep -q "require_certifcate" <<<"$said" && grep -q "bad.conf:" <<<"$said" && return 0
    echo "$said"
    return 1
}

# A user who is new gets in, one who is gone does not, and those who are connected and stay hear nothing of it.
flow_reload() {
    listen $(tcp foo) -t Topic -q 1 -C 1 || return
    refused pub -h 127.0.0.1 -p "$port" -u new -P new -t Topic -m x || return
    "$binary" passwd -b "$directory/passwords" new new || return
    lines 'user new' 'topic write Topic' >>"$directory/rights"
    reload 'Config reloaded\.' || return
    pub -h 127.0.0.1 -p "$port" -u new -P new -t Topic -m "new's" -q 1 || return
    received "new's" || return
    "$binary" passwd -D "$directory/passwords" new && sed -i '/^user new$/,$d' "$directory/rights" || return
    reload 'Config reloaded\.' || return
    refused pub -h 127.0.0.1 -p "$port" -u new -P new -t Topic -m x
}

# Whatever is wrong, nothing changes.
flow_refused_reload() {
    listen $(tcp foo) -t Topic -q 1 -C 3 || return
    local file
    for file in rights passwords midge.conf; do
        cp "$directory/$file" "$directory/good"
        echo 'neither a rule nor a user' >>"$directory/$file"
        reload 'The configuration was not reloaded\.' || return
        pub $(tcp bar) -t Topic -m "bar's" -q 1 || return
        refused pub -h 127.0.0.1 -p "$port" -t Topic -m x || return
        mv "$directory/good" "$directory/$file"
    done
    received "$(lines "bar's" "bar's" "bar's")" || return
    reload 'Config reloaded\.'
}

# Five reloads while messages flow, each with another password file, and none of the messages is lost or repeated.
flow_reload_under_load() {
    local part
    listen $(tcp load) -t "$topic" -q 1 -C "$load" || return
    for part in 0 1 2 3 4 5; do
        seq $((part * load / 6 + 1)) $(((part + 1) * load / 6))
        if ((part < 5)); then
            "$binary" passwd -b "$directory/passwords" "user$part" x >/dev/null
            reload 'Config reloaded\.' || echo "there was no reload"
        fi
    done | timeout 60 mosquitto_pub -V "$version" $(tcp load) -t "$topic" -q 1 -l || return
    wait_until ended "$listener" || kill "$listener"
    wait "$listener"
    cmp <(seq "$load") "$output" && return 0
    wc -l "$output"
    return 1
}

flow_log_rotation() {
    mv "$directory/log" "$directory/log.1" || return
    pub $(tcp bar) -i before -t Topic -m x -q 1 || return
    reload 'Config reloaded\.' || return
    pub $(tcp bar) -i after -t Topic -m x -q 1 || return
    grep -q 'as before ' "$directory/log.1" && grep -q 'as after ' "$directory/log" || return
    ! grep -q 'as after ' "$directory/log.1" && ! grep -q 'as before ' "$directory/log" || return
    # What other flows count stays in one file.
    cat "$directory/log" >>"$directory/log.1" && mv "$directory/log.1" "$directory/log" && reload 'Config reloaded\.'
}

# No password of a user and no hash is in the log.
flow_nothing_secret_is_logged() {
    local secret
    for secret in "foo's" "bar's" "load's" "wrong" $(cut -d: -f2 "$directory/passwords"); do
        if grep -qF -- "$secret" "$directory/log" "$directory/stderr"; then
            echo "$secret is in the log"
            return 1
        fi
    done
}

# The flows, and the versions in which each is run.
FLOWS="
passwords mqttv31 mqttv311 mqttv5
rights mqttv31 mqttv311 mqttv5
tls mqttv311 mqttv5
certificates mqttv311 mqttv5
unix_socket mqttv311 mqttv5
test_config mqttv5
reload mqttv311 mqttv5
refused_reload mqttv311 mqttv5
reload_under_load mqttv311 mqttv5
log_rotation mqttv5
nothing_secret_is_logged mqttv5
"

listeners=0
if ! set_up >"$directory/said" 2>&1; then
    cat "$directory/said"
    echo "the files could not be made"
    exit 1
fi
start_broker
run_flows "$FLOWS"
