#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
# Hosts that come to know each other: init, invite, join, list, renew, remove; with tokens that are wrong,
# used, late or for another, and with certificates of another cluster. Then they protect.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
command -v openssl >/dev/null || { echo "no openssl"; exit 77; }

# host NAME COMMAND...: pollux there, with its own folder for /etc/pollux.
host()
{
	local name=$1
	shift
	mkdir -p "$T/$name"
	POLLUX_CONF=$T/$name/pollux.conf POLLUX_SOCKET=$T/$name/run/polluxd.sock "$BIN/pollux" "$@"
}
mode() { stat -c %a "$1"; }
PORT=$((BASE_PORT + 10))
# invite NAME [OPTION]: host a waits for it; leaves $TOKEN.
invite()
{
	host a host invite "$@" >"$T/invite" 2>&1 &
	inviter=$!
	until grep -q 'waiting for it' "$T/invite"; do
		kill -0 $inviter 2>/dev/null || fail "invite: $(cat "$T/invite")"
		sleep 0.05
	done
	TOKEN=$(sed -n 's/.*--token=//p' "$T/invite")
	[ ${#TOKEN} = 32 ] || fail "no token: $(cat "$T/invite")"
}

# Before there is anything.
expect 1 "No such file" host a host list
expect 1 "No such file" host a host invite b
expect 1 "No such file" host a host renew
expect 2 "needs --token" host b host join 127.0.0.1

expect 2 'host "a b"' host a host init --name "a b"
expect 0 "this is host a" host a host init --name=a --listen=127.0.0.1:$PORT
expect 3 "is there" host a host init --name=a
[ "$(mode "$T/a/pki/ca.key")$(mode "$T/a/pki/host.pem")" = 600600 ] || fail "others may read keys: $(ls -l "$T/a/pki")"
expect 0 "" "$BIN/polluxd" --config "$T/a/pollux.conf" --check
openssl verify -CAfile "$T/a/pki/ca.pem" -verify_hostname a "$T/a/pki/host.pem" >/dev/null || fail "the certificate is not good"
expect 0 "(this host)" host a host list
expect 0 '"certificate_expires": "20' host a host list --format json
expect 3 "is this host itself" host a host invite a

# A wrong token, no token's form, another name, plain text, a request that is none: the invitation waits on.
invite b --timeout=60s
expect 2 'host "b/"' host b host join 127.0.0.1:$((PORT + 1)) --name=b/ --token="$TOKEN"
expect 1 "32 hexadecimal" host b host join 127.0.0.1:$((PORT + 1)) --name=b --token=short
expect 1 "the token right?" host b host join 127.0.0.1:$((PORT + 1)) --name=b --token="$(tr 0-9a-f 1-9a-f0 <<<"$TOKEN")"
expect 3 "the token is for host b" host c host join 127.0.0.1:$((PORT + 1)) --name=c --token="$TOKEN"
echo "GET / HTTP/1.0" | timeout 10 bash -c "cat >/dev/tcp/127.0.0.1/$((PORT + 1))" || true
timeout 10 openssl s_client -connect 127.0.0.1:$((PORT + 1)) -tls1_3 </dev/null >"$T/plain" 2>&1 || true
! grep -q 'BEGIN CERTIFICATE' "$T/plain" || fail "a certificate is shown to whoever comes"
[ ! -e "$T/b/pollux.conf" ] && [ ! -e "$T/c/pollux.conf" ] || fail "a refused host has a configuration"
kill -0 $inviter || fail "the invitation has ended: $(cat "$T/invite")"
! grep -q 'peer' "$T/a/pollux.conf" || fail "a refused host is a peer"

# The right one, once.
expect 0 "this is host b, and a is its peer at 127.0.0.1:$PORT" host b host join 127.0.0.1:$((PORT + 1)) --name=b --listen=127.0.0.1:$((PORT + 10)) --token="$TOKEN"
wait $inviter || fail "invite: $(cat "$T/invite")"
grep -q 'host b has joined, at 127.0.0.1:'$((PORT + 10)) "$T/invite" || fail "invite: $(cat "$T/invite")"
[ "$(mode "$T/b/pki/host.pem")" = 600 ] && [ ! -e "$T/b/pki/ca.key" ] || fail "$(ls -l "$T/b/pki")"
openssl verify -CAfile "$T/b/pki/ca.pem" -verify_hostname b "$T/b/pki/host.pem" >/dev/null || fail "the certificate is not good"
expect 1 "still waiting" host b host join 127.0.0.1:$((PORT + 1)) --token="$TOKEN"
expect 3 "this host cannot sign" host b host renew
expect 3 "this host cannot sign" host b host invite c

# Nobody comes: the token is void.
expect 6 "the token is void" host a host invite c --timeout=300ms
expect 1 "still waiting" host c host join 127.0.0.1:$((PORT + 1)) --name=c --token="$TOKEN"

# They protect, by these certificates.
for name in a b; do
	printf '[http]\nlisten = off\n[paths]\nrun = %s/run\nstate = %s/state\nlog = %s/log\n' "$T/$name" "$T/$name" "$T/$name" \
		>>"$T/$name/pollux.conf"
	start $name
done
make_vm db
expect 0 "VM db runs" on a vm create "$T/db.cfg"
expect 0 "begins" on a protect db b
expect 0 "protected" on a wait db --for=protected --timeout=10s
expect 3 "VM db is protected between here and b" host a host remove b

# Keys change without an end of protection: on the founder by itself, elsewhere by joining again.
before=$(sha256sum "$T"/?/pki/host.pem)
expect 0 "are new" host a host renew
invite b
expect 0 "this is host b" host b host join 127.0.0.1:$((PORT + 1)) --token="$TOKEN"
wait $inviter || fail "invite: $(cat "$T/invite")"
[ "$(sha256sum "$T"/?/pki/host.pem | sort | uniq -d)$(comm -12 <(sort <<<"$before") <(sha256sum "$T"/?/pki/host.pem | sort))" = "" ] || fail "a key is the old one"
[ "$(grep -c '\[peer b\]' "$T/a/pollux.conf")" = 1 ] || fail "b is there twice: $(cat "$T/a/pollux.conf")"
for name in a b; do
	stop $name
	start $name
done
expect 0 "protected" on a wait db --for=protected --timeout=10s
! on a events | grep -q 'protection has ended' || fail "protection ended"
expect 0 "has ended" on a unprotect db
expect 0 "begins" on a protect db b
expect 0 "protected" on a wait db --for=protected --timeout=10s
expect 0 "has ended" on a unprotect db

# A host of another cluster, under a name that is known, is refused by both.
expect 0 "this is host b" host x host init --name=b --listen=127.0.0.1:$((PORT + 10))
stop b
cp -r "$T/b" "$T/b.kept"
cp -r "$T"/x/pki/. "$T/b/pki/"
start b
expect 3 "certificate" on a protect db b
stop b

# Removed, it is nobody; the operator's own lines stay.
echo '# mine' >>"$T/a/pollux.conf"
expect 0 "no peer of this host any more" host a host remove b
grep -q '^# mine' "$T/a/pollux.conf" && grep -q '^state = ' "$T/a/pollux.conf" || fail "too much was removed: $(cat "$T/a/pollux.conf")"
expect 1 "no section [peer b]" host a host remove b
stop a
start a
expect 3 'host "b" is not in pollux.conf' on a protect db b

# A configuration that is the operator's is not touched.
make_host d 4
before=$(cat "$T/d/pollux.conf")
expect 3 "a certificate of yours" host d host join 127.0.0.1:$((PORT + 1)) --token="$TOKEN"
[ "$(cat "$T/d/pollux.conf")" = "$before" ] || fail "it was touched"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	mkdir "$T/z"
	chmod 755 "$T" "$T/z"
	cp "$BIN/pollux" "$T/pollux"
	expect 4 "run this as root" env POLLUX_CONF="$T/z/pollux.conf" setpriv --reuid 65534 --regid 65534 \
		--clear-groups "$T/pollux" host init --name=z
fi
echo done
