# SPDX-License-Identifier: Apache-2.0
# Sourced by tests of the tools: hosts are folders below $T, each with its own polluxd, whose
# pollux-vmm and pollux-ha are stand-ins (tests/unit/fake_programs.c).

O=${O:-build}
BIN=$O/bin
T=$(mktemp -d /tmp/pollux-test.XXXXXX)
export POLLUX_LIBEXEC=$O/tests/fake
BASE_PORT=$((20000 + $$ % 400 * 30)) # below those that the kernel chooses

[ -x "$BIN/polluxd" ] || { echo "$BIN/polluxd was not built"; exit 77; }

# Ends only what this test has started: their pids are written below $T.
cleanup()
{
	local f pid status=$?
	for f in "$T"/*/daemon.pid; do
		[ -e "$f" ] && kill "$(cat "$f")" 2>/dev/null
	done
	for f in "$T"/*/run/vm/*/vm.json "$T"/*/run/ha/*.run; do
		pid=$(grep -o '"pid":[0-9]*' "$f" 2>/dev/null | cut -d: -f2)
		[ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
	done
	# What a sanitizer has to say comes at the end, and is a failure.
	for f in "$T"/*/daemon.pid; do
		while [ -e "$f" ] && kill -0 "$(cat "$f")" 2>/dev/null; do sleep 0.05; done
	done
	if grep -hE -A 30 'ERROR: .*Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$T"/*/daemon.log; then
		status=1
	fi
	rm -rf "$T"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail()
{
	echo "FAILED: $*"
	for f in "$T"/*/daemon.log "$T"/*/log/*.log; do
		[ -s "$f" ] && echo "--- $f" && tail -n 20 "$f"
	done
	exit 1
}

make_ca()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \
		-subj /CN=test -keyout "$T/ca.key" -out "$T/ca.pem" 2>/dev/null || fail openssl
}

# make_host NAME NUMBER: folders, a certificate, pollux.conf with both hosts as peers.
make_host()
{
	local name=$1 port=$((BASE_PORT + $2 * 10)) peer
	mkdir -p "$T/$name/disks"
	[ -e "$T/ca.pem" ] || make_ca
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
		-keyout "$T/$name/key.pem" -out "$T/$name/csr" 2>/dev/null
	openssl x509 -req -in "$T/$name/csr" -CA "$T/ca.pem" -CAkey "$T/ca.key" -CAcreateserial \
		-days "${CERT_DAYS:-60}" -extfile <(echo "subjectAltName=DNS:$name") -out "$T/$name/cert.pem" \
		2>/dev/null || fail openssl
	cat >"$T/$name/pollux.conf" <<-CONF
		[host]
		name = $name
		listen = 127.0.0.1:$port
		[tls]
		ca = $T/ca.pem
		cert = $T/$name/cert.pem
		key = $T/$name/key.pem
		[http]
		listen = 127.0.0.1:$((port + 1))
		[paths]
		run = $T/$name/run
		state = $T/$name/state
		log = $T/$name/log
	CONF
	for peer in a:1 b:2; do
		[ "${peer%:*}" = "$name" ] && continue
		printf '[peer %s]\naddress = 127.0.0.1:%d\n' "${peer%:*}" \
			$((BASE_PORT + ${peer#*:} * 10)) >>"$T/$name/pollux.conf"
	done
}

# as_host NAME COMMAND...: how a test that has more than folders to a host runs what is there.
as_host() { shift; exec "$@"; }

# start NAME: its polluxd, until it answers.
start()
{
	as_host "$1" "$BIN/polluxd" --config "$T/$1/pollux.conf" >>"$T/$1/daemon.log" 2>&1 &
	echo $! >"$T/$1/daemon.pid"
	disown
	until on "$1" status >/dev/null 2>&1; do
		kill -0 "$(cat "$T/$1/daemon.pid")" 2>/dev/null || fail "polluxd of $1 ended"
		sleep 0.05
	done
}

stop()
{
	local pid
	pid=$(cat "$T/$1/daemon.pid")
	kill "$pid"
	while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
	rm "$T/$1/daemon.pid"
}

# on NAME COMMAND...: pollux on that host.
on()
{
	local name=$1
	shift
	(export POLLUX_SOCKET=$T/$name/run/polluxd.sock && as_host "$name" "$BIN/pollux" "$@")
}

# expect CODE TEXT COMMAND...: it exits with CODE and says TEXT.
expect()
{
	local code=$1 text=$2 out status
	shift 2
	out=$("$@" 2>&1)
	status=$?
	[ $status -eq "$code" ] || fail "exit $status instead of $code: $*: $out"
	case $out in
	*"$text"*) ;;
	*) fail "\"$text\" is missing in: $out" ;;
	esac
}

# until_says SECONDS TEXT COMMAND...: waits until the command's output holds TEXT.
until_says()
{
	local deadline=$((SECONDS + $1)) text=$2 out
	shift 2
	while :; do
		out=$("$@" 2>&1)
		case $out in *"$text"*) return 0 ;; esac
		[ $SECONDS -lt $deadline ] || fail "\"$text\" does not come: $*: $out"
		sleep 0.1
	done
}

# make_vm NAME: a VM file in $T/NAME.cfg with a kernel and a disk of 1 MiB.
make_vm()
{
	echo kernel >"$T/kernel"
	truncate -s 1M "$T/$1.img"
	cat >"$T/$1.cfg" <<-CFG
		name = "$1"
		kernel = "$T/kernel"
		memory = 64
		disk = [ '$T/$1.img,raw,xvda,rw' ]
		vif = [ 'mac=52:54:00:00:00:01' ]
		on_reboot = "restart"
		on_crash = "preserve"
	CFG
}

pid_in()
{
	grep -o '"pid":[0-9]*' "$1" | cut -d: -f2
}
