# SPDX-License-Identifier: Apache-2.0
#
# Making small root file systems out of what Debian installed here. Sourced.

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

# root_make ROOT: the folders and busybox with all its names.
root_make()
{
	local root=$1 name
	mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc,root,mnt,usr/{bin,sbin,lib,share},lib,var/{lib,log}}
	ln -s lib "$root/lib64"
	ln -s bin "$root/sbin" # the kernel calls /sbin/modprobe
	ln -s ../run "$root/var/run"
	cp -L /bin/busybox "$root/bin/busybox"
	for name in $(busybox --list); do
		[ "$name" = busybox ] || ln -s busybox "$root/bin/$name"
	done
	# Busybox's shell prefers its own applets to the real programs on the path.
	rm "$root/bin/sh"
	cp -L /bin/dash "$root/bin/sh"
	root_add_libraries "$root" /bin/dash
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' \
		>"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
}

# root_add_libraries ROOT FILE...: what the loader will ask for, under /lib.
root_add_libraries()
{
	local root=$1 line file
	shift
	# A static program is not an error; a library that is not found is.
	{ ldd "$@" 2>/dev/null || true; } >"$root/.ldd"
	if grep -q 'not found' "$root/.ldd"; then
		grep 'not found' "$root/.ldd" >&2
		die "a library is missing"
	fi
	while read -r line; do
		file=$(sed -n -E 's/^(.* => )?(\/[^ ]+) \(0x.*$/\2/p' <<<"$line")
		[ -n "$file" ] || continue
		[ -e "$root/lib/${file##*/}" ] || cp -L "$file" "$root/lib/${file##*/}"
	done < <(sort -u "$root/.ldd")
	rm -f "$root/.ldd"
	# pthread_cancel and C++ load this one by name.
	file=/lib/x86_64-linux-gnu/libgcc_s.so.1
	[ -e "$root/lib/libgcc_s.so.1" ] || cp -L $file "$root/lib/libgcc_s.so.1"
}

# root_add_programs ROOT NAME...: programs found on the path, into /usr/bin.
root_add_programs()
{
	local root=$1 name path paths=()
	shift
	for name in "$@"; do
		path=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v "$name") ||
			die "program $name is not installed: run tools/install-deps"
		cp -L "$path" "$root/usr/bin/$name"
		paths+=("$path")
	done
	root_add_libraries "$root" "${paths[@]}"
}

# root_add_modules ROOT KERNEL NAME...: modules and what they need; KERNEL is an
# unpacked kernel package. Modules that this kernel has built in are passed over.
root_add_modules()
{
	local root=$1 kernel=$2 version path
	shift 2
	version=$(cat "$kernel/version")
	mkdir -p "$root/lib/modules/$version"
	for path in $(modprobe -d "$kernel" -S "$version" -a --show-depends "$@" |
		awk '$1 == "insmod" { print $2 }' | sort -u); do
		cp "$path" "$root/lib/modules/$version/"
	done
	cp "$kernel/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} \
		"$root/lib/modules/$version/"
	depmod -b "$root" "$version"
	# Only the text files are read by busybox.
	rm -f "$root/lib/modules/$version/"*.bin
}

# root_pack ROOT FILE: an initramfs, not compressed: unpacking costs an emulated
# processor more than reading. `cpio` pads, so that archives can be concatenated.
root_pack()
{
	(cd "$1" && find . -print0 | sort -z | cpio --quiet -0 -o -H newc -R 0:0) >"$2.new"
	mv "$2.new" "$2"
}
