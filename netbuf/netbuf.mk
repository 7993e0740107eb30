# SPDX-License-Identifier: Apache-2.0

LIBNL_CFLAGS := $(shell $(PKG_CONFIG) --cflags libnl-route-3.0 2>/dev/null)
$(O)/obj/netbuf/%.o: CFLAGS_ALL += $(LIBNL_CFLAGS)
