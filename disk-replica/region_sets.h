/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of regions of a VM's disks (region_file.h says what a region is), and its form as a
 * text: base64 of zlib of the bitmaps' bytes, one disk after the other, as in the file. Both
 * hosts know the sizes of the disks; the text has none.
 *
 * Threads: a set belongs to one at a time.
 */
#ifndef POLLUX_DISK_REGION_SETS_H
#define POLLUX_DISK_REGION_SETS_H

#include "disk-replica/format.h"
#include "hypervisor/control/region_file.h"

struct region_sets {
	unsigned int nr_disks;
	uint64_t disk_bytes[DISK_MAX];
	uint64_t *bits[DISK_MAX]; /* of region_count() bits each */
};

/* Empty ones. */
int region_sets_open(struct region_sets *ret, const uint64_t *disk_bytes, unsigned int nr_disks);
void region_sets_close(struct region_sets *s);

void region_sets_fill(struct region_sets *s);
void region_sets_fill_disk(struct region_sets *s, unsigned int disk);
/* The disks' bytes that the set covers. */
uint64_t region_sets_bytes(const struct region_sets *s);

/* `*ret` is to be freed. */
int region_sets_to_text(const struct region_sets *s, char **ret);
/* Into `s`, which is open: -EPROTO, and nothing has changed, for what is not the text of sets
 * of such disks. Bits beyond the last region are dropped. */
int region_sets_from_text(struct region_sets *s, const char *text, struct reason *why);

/* The token as a text: 32 hexadecimal digits. */
#define REGION_TOKEN_TEXT (2 * REGION_TOKEN_BYTES + 1)
void region_token_to_text(const uint8_t token[REGION_TOKEN_BYTES], char ret[REGION_TOKEN_TEXT]);
bool region_token_from_text(const char *text, uint8_t ret[REGION_TOKEN_BYTES]);

#endif
