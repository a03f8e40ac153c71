# What the suites of Mosquitto's command line tools share; they source it.

readonly deadline=10 # seconds that anything which must happen may take

free_port() {
    python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Whether the broker listens on $port and has not ended.
broker_is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && kill -0 "$broker" 2>/dev/null
}

# Ends the broker; its exit code must be 0.
stop_broker() {
    kill "$broker"
    wait "$broker"
    local code=$?
    broker=
    return "$code"
}

# Runs a command again and again until it succeeds or the deadline is over.
wait_until() {
    local end=$((SECONDS + deadline))
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

same() {
    [[ "$1" == "$2" ]] && return 0
    printf 'expected: %s\nreceived: %s\n' "$1" "$2"
    return 1
}

lines() { printf '%s\n' "$@"; }

# Runs the flows of a table, a line each: the function flow_NAME, once for each protocol version behind NAME.
# Prints a line for each, then how the broker ended and the counts; returns 1 if anything failed.
run_flows() {
    local flow versions passed=0 failed=0
    while read -r flow versions; do
        for version in $versions; do
            topic="$flow/$version"
            if "flow_$flow" >"$directory/said" 2>&1; then
                echo "ok $flow ($version)"
                passed=$((passed + 1))
            else
                echo "FAILED $flow ($version)"
                cat "$directory/said"
                failed=$((failed + 1))
            fi
        done
    done < <(grep . <<<"$1")
    if ! stop_broker; then
        echo "FAILED the broker ended with another exit code than 0"
        failed=$((failed + 1))
    fi
    echo "$passed passed, $failed failed"
    ((failed == 0))
}
