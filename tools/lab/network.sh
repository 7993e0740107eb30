# SPDX-License-Identifier: Apache-2.0
#
# The lab's networks, in a namespace of their own: bridges `lan`, `repl`, `mgmt`,
# one tap a node on each, and the client's namespace on `lan`. Sourced by pollux-lab.

NODES=(a b)
NETWORKS=(lan repl mgmt)

lan_address() { case $1 in a) echo 192.168.77.11 ;; b) echo 192.168.77.12 ;; esac; }
repl_address() { case $1 in a) echo 192.168.78.11 ;; b) echo 192.168.78.12 ;; esac; }
mgmt_address() { case $1 in a) echo 192.168.79.11 ;; b) echo 192.168.79.12 ;; esac; }

in_lab() { ip netns exec "$NETNS" "$@"; }
in_client() { ip netns exec "$CLIENT_NETNS" "$@"; }

netns_exists() { [ -e "/run/netns/$1" ]; }

# IPv6 of the bridges themselves would only add noise to captures.
network_quiet()
{
	ip netns exec "$1" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
		echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
}

network_up()
{
	local network node
	ip netns add "$NETNS"
	ip netns add "$CLIENT_NETNS"
	network_quiet "$NETNS"
	{
		echo "link set lo up"
		for network in "${NETWORKS[@]}"; do
			echo "link add $network type bridge forward_delay 0 stp_state 0 mcast_snooping 0"
			echo "link set $network up"
			for node in "${NODES[@]}"; do
				echo "tuntap add dev $network-$node mode tap"
				echo "link set $network-$node master $network up"
			done
		done
		echo "addr add 192.168.79.1/24 dev mgmt"
		echo "link add lan-client type veth peer name eth0 netns $CLIENT_NETNS"
		echo "link set lan-client master lan up"
	} | in_lab ip -batch -
	in_client ip -batch - <<-END
		link set lo up
		addr add 192.168.77.1/24 dev eth0
		link set eth0 up
	END
}

# Ends what still runs in a namespace, then the namespace. Whatever runs in there
# is the lab's: nothing else knows the name.
network_down()
{
	local netns
	for netns in "$CLIENT_NETNS" "$NETNS"; do
		netns_exists "$netns" || continue
		ip netns pids "$netns" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
		ip netns delete "$netns" 2>/dev/null || rm -f "/run/netns/$netns"
	done
}

# The taps of a link, by the names that `cut` and `heal` take.
link_taps()
{
	case $1 in
	repl | lan) echo "$1-a $1-b" ;;
	repl-a | repl-b | lan-a | lan-b) echo "$1" ;;
	*) usage_error "no link $1: repl, repl-a, repl-b, lan, lan-a, lan-b" ;;
	esac
}

# A tap that is down drops frames of both directions, at once.
link_set()
{
	local taps tap
	taps=$(link_taps "$1") || exit 2
	for tap in $taps; do
		in_lab ip link set "$tap" "$2"
	done
}

link_cut() { link_set "$1" down; }
link_heal() { link_set "$1" up; }

links_cut()
{
	in_lab ip -br link show type tun | awk '$1 !~ /^mgmt/ && $4 !~ /[<,]UP[,>]/ { print $1 }'
}

capture_path() { echo "$LAB_DIR/capture-$1.pcap"; }

capture_start()
{
	local on=$1 file
	shift
	file=$(capture_path "$on")
	! process_alive "capture-$on" || die "a capture on $on is running already"
	in_lab ip link show "$on" >/dev/null 2>&1 || usage_error "no interface $on in the lab"
	rm -f "$file"
	(close_descriptors
		exec setsid ip netns exec "$NETNS" tcpdump -Z root --immediate-mode -i "$on" -n -U -s 256 -w "$file" "$@" \
			</dev/null >"$LAB_DIR/capture-$on.log" 2>&1) &
	process_record "capture-$on" $!
	# tcpdump says so once it sees packets: what is sent from now on is captured.
	wait_until 10 grep -q 'listening on' "$LAB_DIR/capture-$on.log" ||
		die "tcpdump did not start: see $LAB_DIR/capture-$on.log"
}

capture_stop()
{
	local on=$1
	process_alive "capture-$on" || die "no capture is running on $on"
	process_end "capture-$on" INT
	capture_path "$on"
}
