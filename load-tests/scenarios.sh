#!/usr/bin/env bash
# What load-tests/run measures: a function for each scenario, called with a target's name.
# shellcheck disable=SC2034,SC2154 # what it names and does not use, run uses, and the other way round

# The broker is the same for all. What closed leaves it to write to the disk is in the way of what comes next, so
# closed comes behind those in which latency counts.
every_scenario="idle open steady growth slow-readers closed storm ramp slow-broker"

# A broker that has just started compiles its code in the first seconds.
warmup=5

# As fast as acks come.
closed() { against_fresh closed "$1" closed --vehicles 100 --in-flight 4 --seconds "$seconds"; }

# Many records from few vehicles, whatever the server does.
open() {
	against_fresh open "$1" steady --vehicles 500 --rate 8000 --warmup-seconds "$warmup" --seconds "$seconds"
}

# As vehicles really send: a record comes alone.
steady() {
	against_fresh steady "$1" steady --vehicles 2000 --rate 2000 --connect-rate 1000 --warmup-seconds "$warmup" \
		--seconds "$seconds"
}

# Connections that have sent one record each.
idle() {
	local count
	for count in $idle; do
		count=$(affordable "$count")
		against_fresh "idle-$count" "$1" idle --vehicles "$count" --connect-rate 1000 --seconds 2 --drain-seconds 30
	done
}

# Everybody at once, and twice again. Two cores make a thousand handshakes a second or less with the simulator
# beside the server, so the last of many is late: what counts is that all come back.
storm() {
	local count
	for count in $storm; do
		count=$(affordable "$count")
		against_fresh "storm-$count" "$1" storm --vehicles "$count" --reconnects 2 --local-addresses 4 \
			--connect-timeout-ms 60000 --connect-limit-seconds 180
	done
}

# The same from each vehicle, from more and more vehicles: does a record get dearer?
growth() {
	local count
	for count in $growth; do
		count=$(affordable "$count")
		against_fresh "growth-$count" "$1" steady --vehicles "$count" --rate "$count" --connect-rate 1000 \
			--seconds "$seconds"
	done
}

# Connections in five steps to what the machine's limit of open files allows, as fast as 32 handshakes at a time
# go. An address has some 28,000 ports to connect from, so the vehicles have four addresses.
ramp() {
	local most
	most=$(affordable 100000)
	note "ramp to $most connections: the limit is $(ulimit -n) open files for a process"
	against_fresh ramp "$1" idle --vehicles "$most" --steps 5 --connect-rate 100000 --local-addresses 4 --seconds 1 \
		--connect-limit-seconds 120 --drain-seconds 30
}

# A tenth of the vehicles never reads its replies. In the warm-up they send until the server has reached its
# bounds; in the middle of the measurement the server has had enough and disconnects them. First the same load
# from vehicles that all read.
slow_readers() {
	local patience=$((4 + seconds / 2))
	against_fresh all-read "$1" steady --vehicles 450 --rate 7200 --warmup-seconds 6 --seconds "$seconds"
	start "$1" "{ \"write_timeout\": \"${patience}s\" }" || return 0
	simulate slow-readers "$1" steady --vehicles 500 --rate 8000 --deaf-share 0.1 --warmup-seconds 6 \
		--seconds "$seconds"
	stop
}

# The broker stands still for four fifths of the time, and once for five seconds.
slow_broker() {
	[ "$1" = kafka ] || return 0
	start "$1" || return 0
	disturb_broker
	simulate slow-broker "$1" steady --vehicles 500 --rate 2000 --seconds "$((seconds > 20 ? seconds : 20))" \
		--drain-seconds 60
	leave_broker_alone
	stop
}

disturb_broker() {
	local broker stops=0
	broker=$(cat "$dir/kafka/pid")
	while kill -STOP "$broker"; do
		stops=$((stops + 1))
		[ "$stops" -eq 20 ] && sleep 5 || sleep 0.4
		kill -CONT "$broker"
		sleep 0.1
	done &
	disturber=$!
}

leave_broker_alone() {
	[ -n "$disturber" ] || return 0
	kill "$disturber" 2>/dev/null || true
	wait "$disturber" 2>/dev/null || true
	kill -CONT "$(cat "$dir/kafka/pid")" 2>/dev/null || true
	disturber=
}

# No more than the limit of open files leaves room for; the server keeps some for newcomers and for itself.
affordable() {
	local most=$(($(ulimit -n) * 15 / 16 - 1000))
	echo "$(($1 < most ? $1 : most))"
}
