/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

/* Fills `why` (which may be NULL) and returns -err, so that a refusal is one line. */
int reason_set(struct reason *why, int err, const char *fmt, ...)
{
	va_list ap;

	assert(err > 0);
	if (why) {
		va_start(ap, fmt);
		vsnprintf(why->text, sizeof(why->text), fmt, ap);
		va_end(ap);
	}
	return -err;
}
