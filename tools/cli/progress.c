/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "tools/cli/cli.h"
#include "tools/common/text.h"

#define SHOW_NS (500 * NS_PER_MS)

void cli_progress(struct cli_progress *p, const char *what, uint64_t done, uint64_t total)
{
	uint64_t now = clock_now_ns(), rate;
	char size[32], all[32], speed[32], left[32] = "?";

	if (!isatty(STDERR_FILENO) || !total)
		return;
	if (!p->began_ns || done < p->began_bytes) {
		p->began_ns = now;
		p->began_bytes = done;
	}
	if (p->shown && now < p->shown_ns + SHOW_NS)
		return;
	rate = (uint64_t)((double)(done - p->began_bytes) * NS_PER_S /
			  (double)(now - p->began_ns + 1));
	if (rate && done <= total)
		text_duration((total - done) / rate * NS_PER_S, left, sizeof(left));
	fprintf(stderr, "\r%s %s of %s (%" PRIu64 " %%), %s/s, %s left\033[K", what,
		text_size(done, size, sizeof(size)), text_size(total, all, sizeof(all)),
		done * 100 / total, text_size(rate, speed, sizeof(speed)), left);
	p->shown_ns = now;
	p->shown = true;
}

void cli_progress_end(struct cli_progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
