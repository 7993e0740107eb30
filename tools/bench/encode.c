/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast pages become frames and frames become pages again, for the kinds of pages
 * that matter, each codec, with memcpy and the checksum of the same pages beside them in
 * the same run: ratios mean more than figures on a shared machine.
 *
 * Usage: encode [RESULT.json]
 */
#include "base/clock.h"
#include "ha/decode.h"
#include "ha/encode.h"

#include <stdio.h>
#include <sys/mman.h>
#include <xxhash.h>

#define PAGE	 PROTO_PAGE_BYTES
#define NR_PAGES 8192u /* 32 MiB: beyond the caches, as guest memory is */
#define BYTES	 ((size_t)NR_PAGES * PAGE)
#define PASSES	 5u
/* A sparse page differs from the copy sent before in that many words. */
#define SPARSE_WORDS 16u

enum kind { ZERO, SPARSE, TEXT, RANDOM, NR_KINDS };
static const char *const kind_names[NR_KINDS] = { "zero", "sparse", "text", "random" };

static uint8_t *pages, *others, *memory, *wire;
static size_t wire_len;
static uint64_t seed;

struct result {
	double encode, decode, share; /* GB/s of page bytes; wire bytes per page byte */
};

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Words of a small vocabulary, as logs and sources have them. */
static void fill_text(uint8_t *p)
{
	static const char *const words[] = {
		"static ",     "return ",    "error: ", "kernel",   " [info] ",	    "2024-05-17 ",
		"connection ", "from ",	     "10.0.0.", "accepted", " = ",	    "\n",
		"user ",       "GET /index", " 200 ",	"(void)",   "struct ",	    "page ",
		"offset",      "0x",	     ";\n",	"root ",    "systemd[1]: ", "Started ",
	};
	size_t at = 0;

	while (at < BYTES) {
		const char *w = words[rnd() % ARRAY_SIZE(words)];
		char number[12];
		size_t len;

		if (rnd() % 4 == 0) {
			snprintf(number, sizeof(number), "%u ", (unsigned)(rnd() % 100000));
			w = number;
		}
		len = MIN(strlen(w), BYTES - at);
		memcpy(p + at, w, len);
		at += len;
	}
}

static void fill_random(uint8_t *p)
{
	for (size_t i = 0; i < BYTES; i += 8) {
		uint64_t v = rnd();

		memcpy(p + i, &v, 8);
	}
}

static void fill(enum kind kind)
{
	seed = 88172645463325252u;
	switch (kind) {
	case ZERO:
		memset(pages, 0, BYTES);
		break;
	case SPARSE:
	case TEXT:
		fill_text(pages);
		break;
	case RANDOM:
		fill_random(pages);
		break;
	case NR_KINDS:
		abort();
	}
	memcpy(others, pages, BYTES);
	for (size_t i = 0; kind == SPARSE && i < NR_PAGES; i++)
		for (unsigned w = 0; w < SPARSE_WORDS; w++) {
			uint64_t v = rnd();

			memcpy(others + i * PAGE + rnd() % (PAGE / 8) * 8, &v, 8);
		}
}

static double gbs(size_t bytes, uint64_t ns)
{
	return (double)bytes / (double)ns;
}

static int keep(void *opaque, const void *payload, uint32_t len, unsigned records)
{
	(void)opaque, (void)records;
	memcpy(wire + wire_len, &len, sizeof(len));
	memcpy(wire + wire_len + sizeof(len), payload, len);
	wire_len += sizeof(len) + len;
	return 0;
}

static int apply(void *opaque, const struct page_record *r)
{
	(void)opaque;
	return decode_apply(memory + r->gfn * PAGE, r);
}

static void must(int r)
{
	if (r < 0) {
		fprintf(stderr, "encode: %s\n", strerror(-r));
		exit(1);
	}
}

static uint64_t encode_all(struct encoder *e, const uint8_t *from)
{
	uint64_t begin;

	wire_len = 0;
	begin = clock_now_ns();
	for (size_t gfn = 0; gfn < NR_PAGES; gfn++)
		must(encode_page(e, gfn, from + gfn * PAGE));
	must(encode_flush(e));
	return clock_now_ns() - begin;
}

static uint64_t decode_all(struct decoder *d)
{
	uint64_t begin = clock_now_ns();
	uint32_t len;

	for (size_t at = 0; at < wire_len; at += sizeof(len) + len) {
		memcpy(&len, wire + at, sizeof(len));
		must(decode_pages(d, wire + at + sizeof(len), len, apply, NULL));
	}
	return clock_now_ns() - begin;
}

/* The best of a few passes: what the code can do when the machine lets it. */
static struct result measure(enum kind kind, unsigned codec)
{
	struct encode_options eo = { .codec = codec,
				     .delta = true,
				     .emit = keep,
				     .cache_bytes = kind == SPARSE ? 2 * BYTES : 0 };
	struct decode_options dopt = { .nr_gfns = NR_PAGES, .codecs = CODEC_ALL, .delta = true };
	uint64_t enc = UINT64_MAX, dec = UINT64_MAX;
	struct encoder *e;
	struct decoder *d;

	must(encode_open(&e, &eo));
	must(decode_open(&d, &dopt));
	encode_all(e, pages);
	decode_all(d);
	for (unsigned i = 0; i < PASSES; i++) {
		const uint8_t *from = i % 2 ? pages : others;
		uint64_t ns = encode_all(e, from);

		enc = MIN(enc, ns);
		ns = decode_all(d);
		dec = MIN(dec, ns);
		if (memcmp(memory, from, BYTES)) {
			fprintf(stderr, "encode: memory differs after decoding\n");
			exit(1);
		}
	}
	encode_close(e);
	decode_close(d);
	return (struct result){ gbs(BYTES, enc), gbs(BYTES, dec), (double)wire_len / BYTES };
}

static double measure_memcpy(void)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < PASSES; i++) {
		uint64_t begin = clock_now_ns(), ns;

		for (size_t at = 0; at < BYTES; at += PAGE)
			memcpy(memory + at, pages + at, PAGE);
		ns = clock_now_ns() - begin;
		best = MIN(best, ns);
	}
	return gbs(BYTES, best);
}

static double measure_checksum(void)
{
	uint64_t best = UINT64_MAX;
	volatile uint64_t sum = 0;

	for (unsigned i = 0; i < PASSES; i++) {
		uint64_t begin = clock_now_ns(), ns;

		for (size_t at = 0; at < BYTES; at += PROTO_PAYLOAD_MAX)
			sum ^= XXH3_64bits_withSeed(pages + at, PROTO_PAYLOAD_MAX, 1);
		ns = clock_now_ns() - begin;
		best = MIN(best, ns);
	}
	return gbs(BYTES, best);
}

static uint8_t *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		must(-errno);
	return p;
}

static void write_json(const char *path, struct result r[NR_KINDS][CODEC_COUNT], double copy,
		       double sum)
{
	FILE *f = fopen(path, "we");

	if (!f) {
		perror(path);
		exit(1);
	}
	fprintf(f,
		"{\n  \"pages\": %u, \"memcpy_gbs\": %.3f, \"checksum_gbs\": %.3f,\n"
		"  \"results\": [",
		NR_PAGES, copy, sum);
	for (unsigned k = 0; k < NR_KINDS; k++)
		for (unsigned c = 0; c < CODEC_COUNT; c++)
			fprintf(f,
				"%s\n    {\"pages\": \"%s\", \"codec\": \"%s\", \"encode_gbs\": "
				"%.3f, "
				"\"decode_gbs\": %.3f, \"wire_share\": %.5f}",
				k || c ? "," : "", kind_names[k], codec_name(c), r[k][c].encode,
				r[k][c].decode, r[k][c].share);
	fprintf(f, "\n  ]\n}\n");
	if (fclose(f) != 0)
		must(-errno);
}

int main(int argc, char **argv)
{
	struct result r[NR_KINDS][CODEC_COUNT];
	double copy, sum;

	pages = map(BYTES);
	others = map(BYTES);
	memory = map(BYTES);
	wire = map(BYTES + BYTES / 4);
	fill(RANDOM);
	copy = measure_memcpy();
	sum = measure_checksum();
	printf("%-8s %-6s %14s %14s %12s\n", "pages", "codec", "encode GB/s", "decode GB/s",
	       "wire/raw %");
	for (unsigned k = 0; k < NR_KINDS; k++) {
		fill(k);
		for (unsigned c = 0; c < CODEC_COUNT; c++) {
			r[k][c] = measure(k, c);
			printf("%-8s %-6s %14.2f %14.2f %12.2f\n", kind_names[k], codec_name(c),
			       r[k][c].encode, r[k][c].decode, 100 * r[k][c].share);
		}
	}
	printf("%-15s %14.2f\n%-15s %14.2f\n", "memcpy", copy, "checksum XXH3", sum);
	if (argc > 1)
		write_json(argv[1], r, copy, sum);
	return 0;
}
