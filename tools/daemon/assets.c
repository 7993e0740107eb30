/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/assets.h"

#include <string.h>

#include "base/err.h"
#include "tools/dashboard/assets_data.h"

#define ASSET(url, type, name)                                                                     \
	{                                                                                          \
		url, type, asset_##name, sizeof(asset_##name)                                      \
	}

static const struct asset assets[] = {
	ASSET("/", "text/html; charset=utf-8", index_html),
	ASSET("/dashboard.js", "text/javascript; charset=utf-8", dashboard_js),
	ASSET("/dashboard.css", "text/css; charset=utf-8", dashboard_css),
	ASSET("/dygraph.js", "text/javascript; charset=utf-8", dygraph_js),
	ASSET("/dygraph.css", "text/css; charset=utf-8", dygraph_css),
};

const struct asset *assets_find(const char *url)
{
	for (size_t i = 0; i < ARRAY_SIZE(assets); i++)
		if (!strcmp(assets[i].url, url))
			return &assets[i];
	return NULL;
}
