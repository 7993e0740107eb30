/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps patterns in the vector registers and looks whether they are still there: a processor
 * that was stopped for a checkpoint, or goes on elsewhere, must have its extended state.
 *
 * Each round fills all sixteen registers (AVX: 32 bytes; without AVX the 16 of SSE), spins
 * without touching memory, and compares. Nearly all instants lie in the spin, so that is where
 * checkpoints fall. The patterns differ in each round, register and byte.
 *
 * Whoever connects to port VECTORS_PORT is told `rounds=N wrong=N width=BYTES`.
 *
 * One thread, at the lowest priority: the rest of the machine comes first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/guest/machine.h"

#define VECTORS_PORT 7200
#define REGISTERS    16u
#define WIDTH_MAX    32u
#define SPINS	     2000000ul
#define LINE	     100

/* What the registers are filled from, and what was found in them. */
static _Alignas(32) uint8_t in[REGISTERS][WIDTH_MAX], out[REGISTERS][WIDTH_MAX];

#define EACH(op)                                                                                   \
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13)    \
		op(14) op(15)
#define CLOBBER                                                                                    \
	"memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",    \
		"xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define SPIN "1: dec %[n]\n\tjnz 1b\n\t"

#define FILL_AVX(r)  "vmovdqa 32*" #r "(%[in]), %%ymm" #r "\n\t"
#define STORE_AVX(r) "vmovdqa %%ymm" #r ", 32*" #r "(%[out])\n\t"

static void hold_avx(uint64_t spins)
{
	__asm__ volatile(EACH(FILL_AVX) SPIN EACH(STORE_AVX) "vzeroupper"
			 : [n] "+r"(spins)
			 : [in] "r"(in), [out] "r"(out)
			 : CLOBBER);
}

#define FILL_SSE(r)  "movdqa 32*" #r "(%[in]), %%xmm" #r "\n\t"
#define STORE_SSE(r) "movdqa %%xmm" #r ", 32*" #r "(%[out])\n\t"

static void hold_sse(uint64_t spins)
{
	__asm__ volatile(EACH(FILL_SSE) SPIN EACH(STORE_SSE)
			 : [n] "+r"(spins)
			 : [in] "r"(in), [out] "r"(out)
			 : CLOBBER);
}

static void fill(uint64_t round, size_t width)
{
	for (uint64_t r = 0; r < REGISTERS; r++)
		for (uint64_t i = 0; i < width; i++) {
			uint64_t x = (round * REGISTERS + r) * WIDTH_MAX + i + 1;

			in[r][i] = (uint8_t)((x * 0x9e3779b97f4a7c15) >> 56);
		}
}

/* How many registers are not what they were filled with; the first is told on the console. */
static uint64_t compare(uint64_t round, size_t width)
{
	uint64_t wrong = 0;

	for (unsigned r = 0; r < REGISTERS; r++)
		for (size_t i = 0; i < width; i++)
			if (in[r][i] != out[r][i]) {
				if (wrong++ == 0)
					printf("vectors: round %" PRIu64 ": register %u, byte %zu "
					       "is %02x, not %02x\n",
					       round, r, i, out[r][i], in[r][i]);
				break;
			}
	return wrong;
}

static int listen_here(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(VECTORS_PORT) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 4) < 0) {
		printf("vectors: port %d: %s\n", VECTORS_PORT, strerror(errno));
		return -1;
	}
	return fd;
}

int main(void)
{
	bool avx = __builtin_cpu_supports("avx");
	size_t width = avx ? WIDTH_MAX : WIDTH_MAX / 2;
	uint64_t round, wrong = 0, spins = machine_parameter("vectors_spins", SPINS);
	int listener;

	setvbuf(stdout, NULL, _IOLBF, 0);
	setpriority(PRIO_PROCESS, 0, 19);
	listener = listen_here();
	printf("vectors: %zu bytes a register\n", width);
	for (round = 0; listener >= 0; round++) {
		char line[LINE];
		int fd;

		fill(round, width);
		memset(out, 0, sizeof(out));
		if (avx)
			hold_avx(spins);
		else
			hold_sse(spins);
		wrong += compare(round, width);
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		snprintf(line, sizeof(line), "rounds=%" PRIu64 " wrong=%" PRIu64 " width=%zu\n",
			 round + 1, wrong, width);
		if (write(fd, line, strlen(line)) < 0)
			printf("vectors: write: %s\n", strerror(errno));
		close(fd);
	}
	return 1;
}
