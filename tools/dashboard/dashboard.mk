# SPDX-License-Identifier: Apache-2.0
# The dashboard's files become arrays in one header. dygraphs is Debian's, copied at build time.

DYGRAPHS ?= /usr/share/javascript/dygraphs
DASHBOARD_FILES := index.html=tools/dashboard/index.html dashboard.js=tools/dashboard/dashboard.js \
	dashboard.css=tools/dashboard/dashboard.css dygraph.js=$(DYGRAPHS)/dygraph.min.js \
	dygraph.css=$(DYGRAPHS)/dygraph.min.css
dashboard_path = $(word 2,$(subst =, ,$(1)))

$(O)/gen/tools/dashboard/assets_data.h: $(foreach f,$(DASHBOARD_FILES),$(call dashboard_path,$(f))) \
		tools/dashboard/dashboard.mk
	@mkdir -p $(@D)
	@for f in $(DASHBOARD_FILES); do \
		name=$$(echo "$${f%%=*}" | tr . _); \
		echo "static const unsigned char asset_$$name[] = {"; \
		xxd -i <"$${f#*=}" || exit 1; \
		echo "};"; \
	done >$@.new
	@mv $@.new $@

$(O)/obj/tools/daemon/assets.o: $(O)/gen/tools/dashboard/assets_data.h
