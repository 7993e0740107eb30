# SPDX-License-Identifier: Apache-2.0
# `make deb`: Debian's packages, from a copy of the sources, left in $(O)/deb with what lintian says.

.PHONY: deb
deb:
	tools/install-deps deb
	rm -rf $(O)/deb
	mkdir -p $(O)/deb/pollux
	tar -c --exclude=./$(notdir $(O)) --exclude=./.git . | tar -x -C $(O)/deb/pollux
	cp -r tools/debian $(O)/deb/pollux/
	cd $(O)/deb/pollux && dpkg-buildpackage -b -us -uc -j2
	rm -rf $(O)/deb/pollux
	lintian --allow-root --fail-on error,warning $(O)/deb/*.changes
	@ls $(O)/deb/*.deb

# Beyond `make check`: it takes a build of its own, and lintian.
.PHONY: check-deb
check-deb: deb
	tests/run deb
