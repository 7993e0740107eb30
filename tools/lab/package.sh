# SPDX-License-Identifier: Apache-2.0
#
# Debian's packages that the lab unpacks and this machine does not install. Sourced,
# after root.sh; what was downloaded stays in $POLLUX_LAB_CACHE.

CACHE=${POLLUX_LAB_CACHE:-/var/cache/pollux-lab}

package_cached() { find "$CACHE" -name "${1}_*.deb" | sort -V | tail -1; }

# package_fetch NAME: prints the package's file.
package_fetch()
{
	local name=$1 deb part=$CACHE/part.$$
	mkdir -p "$CACHE"
	deb=$(package_cached "$name")
	if [ -z "$deb" ]; then
		echo "  downloading $name" >&2
		mkdir -p "$part"
		(cd "$part" &&
			{ apt-get -q -o APT::Sandbox::User=root download "$name" >/dev/null 2>&1 || {
				apt-get -q update >/dev/null
				apt-get -q -o APT::Sandbox::User=root download "$name" >/dev/null
			}; } && mv ./*.deb ..) || die "could not download $name"
		rmdir "$part"
		deb=$(package_cached "$name")
	fi
	[ -n "$deb" ] || die "could not download $name"
	echo "$deb"
}
