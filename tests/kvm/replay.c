/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay DISK0 DISK1: whether these images are what writer.c has made of two disks of zeroes
 * after exactly so many requests, none left out, none too many. Prints that number; 1 when
 * there is none.
 *
 * The guest's requests depend on nothing but their number, and it has one at a time.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/err.h"

#define REGION 65536u
#define BLOCK  4096u
#define AFTER  16u /* requests that leave no number of their own on the disk, or only there */

struct disk {
	uint8_t *image, *model;
	uint64_t bytes;
};

static int load(struct disk *d, const char *path)
{
	FILE *f = fopen(path, "re");
	struct stat st;

	if (!f || fstat(fileno(f), &st))
		return -errno;
	d->bytes = (uint64_t)st.st_size;
	d->image = malloc(d->bytes);
	d->model = calloc(1, d->bytes);
	if (!d->image || !d->model)
		return -ENOMEM;
	if (fread(d->image, 1, d->bytes, f) != d->bytes)
		return -EIO;
	fclose(f);
	return 0;
}

/* The highest number that a write has left. */
static uint32_t newest(const struct disk *d)
{
	uint32_t max = 0, n;

	for (uint64_t at = 0; at < d->bytes; at += BLOCK) {
		memcpy(&n, d->image + at, sizeof(n));
		max = MAX(max, n);
	}
	return max;
}

/* As run() in writer.c. */
static void step(struct disk disk[2], uint32_t count, uint32_t *seed)
{
	struct disk *d = &disk[count % 2];
	uint64_t region;

	*seed = *seed * 1103515245u + 12345u;
	region = ((count >> 7) + (*seed >> 16 & 7)) % (d->bytes / REGION) * REGION;
	if (count % 64 == 63)
		return;
	if (count % 256 == 16 || count % 256 == 144) {
		memset(d->model + region, 0, REGION);
	} else {
		uint64_t at = region + (*seed >> 20 & 15) * 8 * 512;
		uint32_t not = ~count;

		memcpy(d->model + at, &count, sizeof(count));
		memcpy(d->model + at + BLOCK - sizeof(not ), &not, sizeof(not ));
	}
}

static bool same(const struct disk *d)
{
	return !memcmp(d->image, d->model, d->bytes);
}

int main(int argc, char **argv)
{
	struct disk disk[2];
	uint32_t from, seed = 1;

	if (argc != 3 || load(&disk[0], argv[1]) || load(&disk[1], argv[2])) {
		fprintf(stderr, "usage: replay DISK0 DISK1\n");
		return 2;
	}
	from = MAX(newest(&disk[0]), newest(&disk[1]));
	for (uint32_t count = 0; count <= from + AFTER; count++) {
		if (count)
			step(disk, count, &seed);
		if (count >= from && same(&disk[0]) && same(&disk[1])) {
			printf("%u\n", count);
			return 0;
		}
	}
	fprintf(stderr, "the newest block is of request %u, and no count of requests gives this\n",
		from);
	return 1;
}
