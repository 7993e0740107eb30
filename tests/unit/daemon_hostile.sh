#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
# Bad input at each of polluxd's doors: the local socket, the peers' port, HTTP. Each is
# refused with a reason, and polluxd goes on.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
for tool in openssl curl; do
	command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done

make_host a 1
make_host b 2
start a
start b
sock=$T/a/run/polluxd.sock
raw() { "$POLLUX_LIBEXEC/pollux-vmm" --raw "$sock"; }

# --- the local socket
expect 0 "is no JSON object" raw < <(printf 'hello\0')
expect 0 "is no JSON object" raw < <(printf '[1]\0')
expect 0 "unknown verb" raw < <(printf '{"verb":"dance"}\0')
expect 0 "unknown verb" raw < <(printf '{"verb":7}\0')
expect 0 "names no VM" raw < <(printf '{"verb":"protect"}\0')
expect 0 'vm \"../x\"' raw < <(printf '{"verb":"protect","vm":"../x"}\0')
expect 0 '\"config\"' raw < <(printf '{"verb":"vm.create","vm":"x"}\0')
expect 0 "memory_mib" raw < <(printf '{"verb":"vm.create","config":{"name":"x","uuid":"6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c11","memory_mib":-1}}\0')
expect 0 "(open)" raw < <(printf '{"verb":"status"')
expect 0 "(closed)" raw < <(head -c 1200000 /dev/zero | tr '\0' x)
expect 0 "(closed)" raw < <(printf '{"verb":"protect","vm":"x"}\0{"verb":"protect","vm":"x"}\0%.0s' {1..50})
expect 0 "no VMs" on a status

# --- the peers' port: plaintext, garbage, no certificate, a wrong one, a name that is not a peer
port=$((BASE_PORT + 10))
{ printf 'GET / HTTP/1.0\r\n\r\n'; head -c 100000 /dev/urandom; } 2>/dev/null >/dev/tcp/127.0.0.1/$port
timeout 5 openssl s_client -connect 127.0.0.1:$port </dev/null >/dev/null 2>&1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=b \
	-addext "subjectAltName=DNS:b" -keyout "$T/evil.key" -out "$T/evil.pem" 2>/dev/null
printf '{"verb":"prepare","from":"b"}\0' | timeout 5 openssl s_client -quiet -connect 127.0.0.1:$port \
	-cert "$T/evil.pem" -key "$T/evil.key" -CAfile "$T/ca.pem" >"$T/evil.out" 2>/dev/null
grep -q '"ok"' "$T/evil.out" && fail "a certificate of another CA was answered"

# errand CERT TEXT: as a host that the CA knows.
errand()
{
	printf '%s\0' "$2" | timeout 10 openssl s_client -quiet -no_ign_eof -connect 127.0.0.1:$port \
		-cert "$T/$1/cert.pem" -key "$T/$1/key.pem" -CAfile "$T/ca.pem" 2>/dev/null | tr '\0' '\n'
}
errand_open()
{
	{ printf '%s\0' "$2"; sleep 2; } | timeout 10 openssl s_client -quiet -connect 127.0.0.1:$port \
		-cert "$T/$1/cert.pem" -key "$T/$1/key.pem" -CAfile "$T/ca.pem" 2>/dev/null | tr '\0' '\n'
}
expect 0 "is no JSON object" errand_open b 'x'
expect 0 "unknown verb" errand_open b '{"verb":"dance","from":"b"}'
expect 0 "has no section [peer z]" errand_open b '{"verb":"prepare","from":"z"}'
make_host z 3
expect 0 "the certificate shows z" errand_open z '{"verb":"prepare","from":"b"}'
expect 0 '"vm\" is missing' errand_open b '{"verb":"prepare","from":"b"}'

# A well-formed request whose parts do not fit together, or do not fit here.
prepare()
{
	local config='{"name":"x","uuid":"6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c11","memory_mib":'$1',"disks":[{"path":"'$2'"}]}'
	errand_open b '{"verb":"prepare","from":"b","vm":"x","uuid":"6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c11","generation":'${4:-1}',"memory_bytes":'$(($1 << 20))',"config":'$config',"disks":[{"path":"'$3'","bytes":1048576}]}'
}
expect 0 '"no-memory"' prepare 1048576 /x /x
expect 0 "none of the configuration's" prepare 64 /x /etc/passwd
expect 0 '"no-folder"' prepare 64 /nowhere/x.img /nowhere/x.img
expect 0 '"wrong-size"' prepare 64 "$T/ca.pem" "$T/ca.pem"
expect 0 "generation 0 is out of range" prepare 64 "$T/x" "$T/x" 0
expect 0 "no VMs" on a vm list
expect 0 '"port"' prepare 64 "$T/x.img" "$T/x.img"
[ "$(stat -c %s "$T/x.img")" = 1048576 ] || fail "the disk was not made"
expect 0 "standby" on a vm list
expect 0 "prepare.refused" on a events

# --- HTTP
http=http://127.0.0.1:$((port + 1))
expect 0 '"schema_version":1' curl -sS $http/api/v1/status
expect 0 'pollux_vm_protected{vm="x",role="backup"}' curl -sS $http/metrics
expect 0 "<title>Pollux</title>" curl -sS $http/
expect 0 "403" curl -sS -o /dev/null -w '%{http_code}' -H 'Host: evil.example' $http/api/v1/status
expect 0 "405" curl -sS -o /dev/null -w '%{http_code}' -X POST -d x $http/api/v1/status
expect 0 "404" curl -sS -o /dev/null -w '%{http_code}' --path-as-is $http/../../etc/passwd
curl -sS $http/ $http/dashboard.js $http/dashboard.css | grep -oE '(src|href)="?(https?:)?//[^"]*' &&
	fail "the page names another host"

expect 0 "standby" on a vm list
kill -0 "$(cat "$T/a/daemon.pid")" || fail "polluxd of a is gone"
echo done
