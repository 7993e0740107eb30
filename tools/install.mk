# SPDX-License-Identifier: Apache-2.0
# `make install`: DESTDIR and PREFIX as usual. Man pages are made by scdoc.

MAN_SOURCES := $(wildcard docs/man/*.scd)
MAN_PAGES := $(MAN_SOURCES:docs/man/%.scd=$(O)/man/%)
# "polluxd.8" goes to man8.
man_section = $(subst .,,$(suffix $(1)))

$(O)/man/%: docs/man/%.scd
	@mkdir -p $(@D)
	scdoc <$< >$@.new
	@mv $@.new $@

.PHONY: man
man: $(MAN_PAGES)

# nbdkit looks for plugins in the one place that it was built for.
NBDKIT_PLUGINS := $(shell $(PKG_CONFIG) --variable=plugindir nbdkit 2>/dev/null)

install: $(PROGRAMS) $(O)/bin/pollux-xen $(NBD_PLUGIN) $(MAN_PAGES)
	install -D -m 755 $(O)/bin/pollux $(DESTDIR)$(PREFIX)/bin/pollux
	install -D -m 755 $(O)/bin/polluxd $(DESTDIR)$(PREFIX)/sbin/polluxd
	install -D -m 755 $(O)/bin/pollux-vmm $(DESTDIR)$(PREFIX)/libexec/pollux/pollux-vmm
	install -D -m 755 $(O)/bin/pollux-ha $(DESTDIR)$(PREFIX)/libexec/pollux/pollux-ha
	install -D -m 755 $(O)/bin/pollux-xen $(DESTDIR)$(PREFIX)/libexec/pollux/pollux-xen
	install -D -m 755 $(O)/bin/pollux-ha-xen $(DESTDIR)$(PREFIX)/libexec/pollux/pollux-ha-xen
	install -D -m 755 tools/cli/report.sh $(DESTDIR)$(PREFIX)/libexec/pollux/pollux-report
	install -D -m 755 hypervisor/xen/block-pollux $(DESTDIR)/etc/xen/scripts/block-pollux
	install -D -m 755 $(NBD_PLUGIN) $(DESTDIR)$(NBDKIT_PLUGINS)/nbdkit-pollux-plugin.so
	install -d -m 755 $(DESTDIR)/etc/pollux $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -d -m 755 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(O)/bin/pollux completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/pollux
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/pollux tools/monitoring/pollux.rules.yml tools/monitoring/grafana.json
	sed 's|@PREFIX@|$(PREFIX)|' tools/systemd/polluxd.service \
		>$(DESTDIR)$(PREFIX)/lib/systemd/system/polluxd.service
	$(foreach m,$(MAN_PAGES),install -D -m 644 $(m) \
		$(DESTDIR)$(PREFIX)/share/man/man$(call man_section,$(m))/$(notdir $(m)) &&) true
