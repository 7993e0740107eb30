/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: one face for four compressors. Invariant: decompression writes exactly the
 * raw size or fails. Threads: one per codec. Source: lz4.h, zstd.h, zlib.h.
 */
#include "ha/codec.h"

#include <lz4.h>
#include <zlib.h>
#include <zstd.h>

#define FAST_LEVEL 1

struct codec {
	const struct codec_ops *ops;
	void *lz4;
	ZSTD_CCtx *zstd_out;
	ZSTD_DCtx *zstd_in;
	z_stream deflater;
	z_stream inflater;
	bool deflater_open;
	bool inflater_open;
};

struct codec_ops {
	const char *name;
	int (*open)(struct codec *c);
	int (*compress)(struct codec *c, const void *src, size_t len, void *dst, size_t *ret_len);
	int (*decompress)(struct codec *c, const void *src, size_t len, void *dst, size_t raw);
};

static int none_open(struct codec *c)
{
	(void)c;
	return 0;
}

static int none_compress(struct codec *c, const void *src, size_t len, void *dst, size_t *ret_len)
{
	(void)c;
	if (len > *ret_len)
		return -ENOSPC;
	memcpy(dst, src, len);
	*ret_len = len;
	return 0;
}

static int none_decompress(struct codec *c, const void *src, size_t len, void *dst, size_t raw)
{
	(void)c;
	if (len != raw)
		return -EBADMSG;
	memcpy(dst, src, len);
	return 0;
}

static int lz4_open(struct codec *c)
{
	c->lz4 = calloc(1, (size_t)LZ4_sizeofState());
	return c->lz4 ? 0 : -ENOMEM;
}

static int lz4_compress(struct codec *c, const void *src, size_t len, void *dst, size_t *ret_len)
{
	int n = LZ4_compress_fast_extState(c->lz4, src, dst, (int)len, (int)*ret_len, FAST_LEVEL);

	if (n <= 0)
		return -ENOSPC;
	*ret_len = (size_t)n;
	return 0;
}

static int lz4_decompress(struct codec *c, const void *src, size_t len, void *dst, size_t raw)
{
	int n = LZ4_decompress_safe(src, dst, (int)len, (int)raw);

	(void)c;
	return n >= 0 && (size_t)n == raw ? 0 : -EBADMSG;
}

/* The first use allocates the workspace: let it be now, and for the largest batch. */
static int zstd_warm(struct codec *c)
{
	size_t raw = 1 << 20, room = ZSTD_compressBound(raw);
	cleanup_free void *src = calloc(1, raw);
	cleanup_free void *dst = malloc(room);

	if (!src || !dst)
		return -ENOMEM;
	return ZSTD_isError(ZSTD_compressCCtx(c->zstd_out, dst, room, src, raw, FAST_LEVEL))
		       ? -ENOMEM
		       : 0;
}

static int zstd_open(struct codec *c)
{
	c->zstd_out = ZSTD_createCCtx();
	c->zstd_in = ZSTD_createDCtx();
	if (!c->zstd_out || !c->zstd_in)
		return -ENOMEM;
	return zstd_warm(c);
}

static int zstd_compress(struct codec *c, const void *src, size_t len, void *dst, size_t *ret_len)
{
	size_t n = ZSTD_compressCCtx(c->zstd_out, dst, *ret_len, src, len, FAST_LEVEL);

	if (ZSTD_isError(n))
		return -ENOSPC;
	*ret_len = n;
	return 0;
}

static int zstd_decompress(struct codec *c, const void *src, size_t len, void *dst, size_t raw)
{
	size_t n = ZSTD_decompressDCtx(c->zstd_in, dst, raw, src, len);

	return !ZSTD_isError(n) && n == raw ? 0 : -EBADMSG;
}

static int zlib_open(struct codec *c)
{
	if (deflateInit(&c->deflater, FAST_LEVEL) != Z_OK)
		return -ENOMEM;
	c->deflater_open = true;
	if (inflateInit(&c->inflater) != Z_OK)
		return -ENOMEM;
	c->inflater_open = true;
	return 0;
}

static void zlib_point(z_stream *z, const void *src, size_t len, void *dst, size_t room)
{
	z->next_in = (Bytef *)(uintptr_t)src;
	z->avail_in = (uInt)len;
	z->next_out = dst;
	z->avail_out = (uInt)room;
}

static int zlib_compress(struct codec *c, const void *src, size_t len, void *dst, size_t *ret_len)
{
	deflateReset(&c->deflater);
	zlib_point(&c->deflater, src, len, dst, *ret_len);
	if (deflate(&c->deflater, Z_FINISH) != Z_STREAM_END)
		return -ENOSPC;
	*ret_len -= c->deflater.avail_out;
	return 0;
}

static int zlib_decompress(struct codec *c, const void *src, size_t len, void *dst, size_t raw)
{
	inflateReset(&c->inflater);
	zlib_point(&c->inflater, src, len, dst, raw);
	if (inflate(&c->inflater, Z_FINISH) != Z_STREAM_END)
		return -EBADMSG;
	return c->inflater.avail_in || c->inflater.avail_out ? -EBADMSG : 0;
}

static const struct codec_ops table[CODEC_COUNT] = {
	[CODEC_NONE] = { "none", none_open, none_compress, none_decompress },
	[CODEC_LZ4] = { "lz4", lz4_open, lz4_compress, lz4_decompress },
	[CODEC_ZSTD] = { "zstd", zstd_open, zstd_compress, zstd_decompress },
	[CODEC_ZLIB] = { "zlib", zlib_open, zlib_compress, zlib_decompress },
};

int codec_open(struct codec **ret, unsigned id)
{
	struct codec *c;
	int r;

	if (id >= CODEC_COUNT)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->ops = &table[id];
	r = c->ops->open(c);
	if (r < 0) {
		codec_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void codec_close(struct codec *c)
{
	if (!c)
		return;
	free(c->lz4);
	ZSTD_freeCCtx(c->zstd_out);
	ZSTD_freeDCtx(c->zstd_in);
	if (c->deflater_open)
		deflateEnd(&c->deflater);
	if (c->inflater_open)
		inflateEnd(&c->inflater);
	free(c);
}

/* The libraries count in int: nothing here comes near, and nothing may. */
#define CODEC_LEN_MAX (64u << 20)

int codec_compress(struct codec *c, const void *src, size_t len, void *dst, size_t *ret_len)
{
	if (len > CODEC_LEN_MAX || *ret_len > CODEC_LEN_MAX)
		return -EINVAL;
	return c->ops->compress(c, src, len, dst, ret_len);
}

int codec_decompress(struct codec *c, const void *src, size_t len, void *dst, size_t raw_len)
{
	if (!len || len > CODEC_LEN_MAX || raw_len > CODEC_LEN_MAX)
		return -EBADMSG;
	return c->ops->decompress(c, src, len, dst, raw_len);
}

const char *codec_name(unsigned id)
{
	return id < CODEC_COUNT ? table[id].name : NULL;
}

int codec_by_name(const char *name)
{
	for (unsigned i = 0; i < CODEC_COUNT; i++)
		if (strcmp(name, table[i].name) == 0)
			return (int)i;
	return -EINVAL;
}

unsigned codec_choose(unsigned wanted, uint32_t ours, uint32_t theirs)
{
	uint32_t both = ours & theirs & CODEC_ALL;

	if (wanted < CODEC_COUNT && both >> wanted & 1)
		return wanted;
	return both >> CODEC_LZ4 & 1 ? CODEC_LZ4 : CODEC_NONE;
}
