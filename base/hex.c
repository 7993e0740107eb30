/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool hex_parse(const char *text, char separator, uint8_t *ret, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high, low;

		if (i > 0 && separator && *text == separator)
			text++;
		high = digit(text[0]);
		low = high < 0 ? -1 : digit(text[1]);
		if (low < 0)
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return *text == '\0';
}
