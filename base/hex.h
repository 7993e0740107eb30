/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes written as pairs of hexadecimal digits, of either case: MAC addresses, UUIDs. */
#ifndef POLLUX_BASE_HEX_H
#define POLLUX_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exactly `n` bytes, and nothing after them. `separator` may stand between any two; '\0': none. */
bool hex_parse(const char *text, char separator, uint8_t *ret, size_t n);

#endif
