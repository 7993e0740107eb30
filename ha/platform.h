/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the hypervisors differ, and nothing else: how a domain is brought to a
 * consistent stop, which of its memory there is, what its state is made of, what a standby
 * is and how it comes to life. All the rest of the engine calls libxenctrl directly, which is
 * Xen's own or Pollux's over pollux-vmm.
 *
 * A program has one platform, chosen by the linker: ha/kvm/ or ha/xen/ defines platform_ops.
 *
 * One domain a handle. Between stop and resume nothing here allocates, logs or waits, but for the
 * device model of a guest that has one (ha/xen/emulator.h). Threads: the main one, but
 * platform_page() is anybody's and platform_apply() the commit's.
 */
#ifndef POLLUX_HA_PLATFORM_H
#define POLLUX_HA_PLATFORM_H

#include <stdint.h>
#include <xenctrl.h>

#include "base/err.h"
#include "ha/decode.h"

#define PLATFORM_PAGE_BYTES 4096u

struct mapping;
struct platform;

enum platform_use {
	PLATFORM_PRIMARY,
	PLATFORM_STANDBY,
	PLATFORM_WATCH, /* look() and destroy() only */
};

struct platform_config {
	uint32_t domid;
	const char *run_dir; /* of the VM: the control socket of its process is there */
	enum platform_use use;
	/* NULL; or called again and again while a call waits for another process */
	void (*idle)(void *opaque);
	void *opaque;
};

enum platform_life {
	PLATFORM_RUNS,	/* or stands still for a while, as who replicates it wants */
	PLATFORM_ENDED, /* shut down or destroyed */
	PLATFORM_LOST,	/* gone, and nobody wanted it to */
};

struct platform_ops {
	const char *name;  /* "kvm", "xen" */
	bool holds_output; /* its own netbuf `hold` is there */
	bool zeroed;	   /* a standby has zeroes at first, not what others left in memory */

	int (*open)(struct platform *p, const struct platform_config *c, struct reason *why);
	void (*close)(struct platform *p);
	enum platform_life (*look)(struct platform *p);
	/* The network device of one of its cards. */
	void (*nic_name)(const struct platform *p, unsigned int nic, char *ret, size_t room);
	/* The device of its emulated twin; false: it has none. NULL: no NIC has. */
	bool (*nic_twin)(const struct platform *p, unsigned int nic, char *ret, size_t room);
	/* For good, and stopped at once. */
	void (*destroy)(struct platform *p);

	/* Where the guest brings itself to a stop, which takes its time: tells it to. NULL: it
	 * need not be told. */
	int (*ask_stop)(struct platform *p);
	/* A consistent stop: neither processors nor devices change memory or state. After
	 * ask_stop(): -EINPROGRESS until the guest stands still, which stop_fd tells; -ETIMEDOUT
	 * when it does not, and it runs on. */
	int (*stop)(struct platform *p);
	int (*resume)(struct platform *p);
	/* What is to be done after a resume and takes its time; NULL: nothing. */
	void (*resumed)(struct platform *p);
	/* A process that died may have left the domain stopped: it runs on. How often it was. */
	unsigned int (*revive)(struct platform *p);
	/* Told which pages were dirty, a bit each, when Xen's log was taken: what is wrong with
	 * them state() says. NULL: nothing can be. */
	void (*note_dirty)(struct platform *p, const uint64_t *dirty);
	/* A page of the domain; NULL where the gfn has no memory. */
	const void *(*page)(struct platform *p, uint64_t gfn);
	/* What beside memory ends an epoch. state() is for a domain that is stopped, returns the
	 * length, and needs at most so much room. */
	int (*state_room)(struct platform *p, uint32_t *ret);
	int (*state)(struct platform *p, void *ret, uint32_t room);
	/* Marks the pages that others than the guest write without a trace in log-dirty, and that
	 * no restored guest looks at: the oracle must not, either. NULL: none. */
	int (*mark_shared)(struct platform *p, uint64_t *bitmap);

	/* Loads the state set aside last. The domain is ready and still paused. */
	int (*standby_load)(struct platform *p, struct reason *why);
	int (*standby_run)(struct platform *p, struct reason *why);
};

struct platform {
	const struct platform_ops *ops;
	xc_interface *xch;
	uint32_t domid;
	uint64_t nr_gfns;      /* gfns are below it; some have no memory */
	uint64_t memory_bytes; /* what there is */
	struct mapping *memory;
	unsigned int pauses;   /* by platform_pause() */
	bool stopping;	       /* from platform_ask_stop() to platform_resume(), or -ETIMEDOUT */
	uint64_t asked_ns;     /* since when; 0: not so */
	int stop_fd;	       /* readable: stop() has news; -1 where nothing is to be asked */
	struct reason trouble; /* of a call that failed, when there is more to say than errno */
	uint8_t *state;	       /* set aside by platform_keep_state() */
	uint32_t state_len, state_room;
	void *priv;
};

extern const struct platform_ops platform_ops;

int platform_open(struct platform *ret, const struct platform_config *config, struct reason *why);
void platform_close(struct platform *p);

/* Whoever read pages does so no more: a domain that ends is gone only then. */
void platform_unmap(struct platform *p);
/* The `page` of a platform whose memory is mapped. */
const void *platform_mapped_page(struct platform *p, uint64_t gfn);

/* A plain pause, counted. While the guest is asked to stop it must be able to: until it is
 * resumed pauses wait. */
int platform_pause(struct platform *p);
void platform_unpause(struct platform *p);
/* Asking again changes nothing. */
int platform_ask_stop(struct platform *p);
/* As ops->stop(). */
int platform_stop(struct platform *p);
/* The domain runs; platform_resumed() is to follow, when time does not press. */
int platform_resume(struct platform *p);
void platform_resumed(struct platform *p);

/* The standby: one page record, or the state that ends an epoch. The epoch's records come
 * in order; nothing is visible of it to the guest before standby_run(). */
int platform_apply(struct platform *p, const struct page_record *r);
int platform_keep_state(struct platform *p, const void *state, uint32_t len);

/* XXH3-64 of all memory in the order of gfns: the memory oracle. The domain stands still. What
 * was copied of it counts as it was copied; NULL: nothing was. */
struct platform_copied {
	const uint64_t *gfn; /* rising */
	const uint8_t *pages;
	uint64_t nr_pages;
};
uint64_t platform_hash(struct platform *p, const struct platform_copied *copied);

#endif
