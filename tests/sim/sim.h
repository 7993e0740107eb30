/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator: two hosts with the product's role.c and epoch.c, a virtual clock, a network
 * that delays and parts, disks that fail, hosts that die, freeze and return, a guest that
 * emits numbered outputs, and a client that sees them. All from one seed, all in one thread.
 *
 * What is simulated is everything the engine does around the two state machines; it is
 * written as their headers ask for it, so it also shows how they are used.
 *
 *   world.c    clock, event queue, random numbers
 *   net.c      messages and connections
 *   guest.c    the VM and the queue of held output
 *   engine.c   what pollux-ha does: actions of role and epoch
 *   backup.c   its receiving half: epochs assembled, takeover
 *   control.c  what polluxd does: "prepare", processes, the record's disk
 *   faults.c   what goes wrong
 *   check.c    P1, P2, P3, and that the VM lives on
 */
#ifndef POLLUX_SIM_H
#define POLLUX_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "ha/epoch.h"
#include "ha/role.h"

#define SIM_TIMEOUT   (100 * NS_PER_MS)
#define SIM_MARGIN    (20 * NS_PER_MS)
#define SIM_HEARTBEAT (20 * NS_PER_MS)
#define SIM_OUTPUTS   16384u
#define SIM_HELD      4096u
#define SIM_PARTS     3u /* memory, devices, disk: an epoch is whole with all of them */

/* What a mutation breaks; the checks must notice each. */
enum mutation {
	MUTATE_NOTHING,
	MUTATE_RELEASE_AT_SEND,	  /* P1: release when the epoch is sent */
	MUTATE_FORGET_HOLD,	  /* P1: output flows until the first acknowledgement */
	MUTATE_STALE_RELEASE,	  /* P1: a release of an earlier copy is still done */
	MUTATE_ACK_PARTIAL,	  /* P1: acknowledge an epoch of which a part is missing */
	MUTATE_COMMIT_PARTIAL,	  /* P2: a takeover includes the epoch that is arriving */
	MUTATE_NO_PERSIST,	  /* P3: say "persisted" without writing */
	MUTATE_LOWER_GENERATION,  /* P3: believe a hand-over of any generation */
	MUTATE_FORGET_RIGHT,	  /* P3: a restarted primary believes it has the right */
	MUTATE_NO_LEASE,	  /* P3: release after the lease has ended */
	MUTATE_ECHO_ALWAYS,	  /* P3: answer heartbeats while taking over */
	MUTATE_ADMIT_WHEN_ACTIVE, /* P3: hand over although the VM runs here */
	MUTATE_LAST_IN_FLIGHT,	  /* switchover: yield before the last epoch is acknowledged */
	MUTATE_LAST_RUNS_ON,	  /* switchover: the guest runs on after its last epoch */
	MUTATE_NR,
};

enum message_kind {
	MSG_PREPARE,
	MSG_HANDOVER,
	MSG_REFUSE,
	MSG_HELLO,
	MSG_WELCOME,
	MSG_FIN,
	MSG_HEARTBEAT,
	MSG_ECHO,
	MSG_PART,
	MSG_ACK,
	MSG_LEAVE,
	MSG_YIELD,
	MSG_YIELD_REQUEST,
};

/* bulk and heart keep their order and wait for a link that is down; control does not. */
enum lane { LANE_BULK, LANE_HEART, LANE_CONTROL, LANE_NR };

struct message {
	enum message_kind kind;
	enum lane lane;
	int from;
	uint64_t conn;
	uint64_t generation;
	uint64_t epoch;
	uint64_t echo_ns;
	bool active;
	enum role_why why;
	unsigned int part;
	uint64_t n, state, instance;
};

struct output {
	uint64_t n, state;
	uint64_t epoch; /* 0: its epoch has not ended */
};

struct snapshot {
	uint64_t epoch, n, state, instance;
};

struct guest {
	bool exists, paused, hold;
	bool still;	   /* after what is to be its last epoch here */
	uint64_t instance; /* who this is: a takeover makes a new one */
	uint64_t n, state; /* outputs so far, and all that led to them */
	struct output held[SIM_HELD];
	size_t nr_held;
};

enum process { PROC_NONE, PROC_PRIMARY, PROC_BACKUP };

struct host {
	int id;
	bool alive;
	uint64_t boot; /* counts lives: an event of an earlier one is void */
	uint64_t frozen_until;
	uint64_t clock_offset;
	int64_t clock_ppm;

	struct record disk;
	bool has_record;
	uint64_t disk_fails_until;
	uint64_t disk_busy_until;

	enum process process;
	uint64_t incarnation;
	struct role role;
	struct epoch epoch;
	uint64_t session; /* a new one makes undone releases and captures void */
	uint64_t tick_nr, timer_nr;
	uint64_t conn;
	uint64_t asked;	  /* "prepare" requests sent */
	uint64_t served;  /* the peer's request that led to the present connection */
	uint64_t left_ns; /* when it was told to leave; 0: not */

	struct guest guest;
	struct snapshot parts[SIM_PARTS]; /* arriving */
	struct snapshot whole[SIM_PARTS]; /* the last acknowledged epoch */
};

struct world {
	uint64_t seed, rng;
	uint64_t now;
	enum mutation mutation;
	struct host hosts[2];
	uint64_t down_until[2]; /* link, by sender */
	uint64_t slow_until;
	uint64_t lane_free[2][LANE_NR];
	uint64_t next_conn;
	bool faults_end;

	/* the client, and what really happened */
	uint64_t seen[SIM_OUTPUTS];
	uint64_t max_seen, last_seen_ns;
	uint64_t newest_instance;
	uint64_t left_instance, left_n; /* moved by a switchover: who, and its last output */
	struct snapshot boundary[64];	/* by epoch, of the newest instance */
	unsigned int nr_faults, nr_takeovers, nr_handovers, nr_protected, nr_switchovers;
	bool lost_allowed;
	char violation[200];

	struct queue *queue;
	bool trace;
};

/* An event reaches its host only if that is the same life and, where it names one, the same
 * process; while the host is frozen it waits. */
typedef void sim_fn(struct world *w, struct host *h, const struct message *m);
struct sim_event {
	sim_fn *fn;
	int host; /* -1: the world's */
	bool of_process;
	bool keeps_lane; /* a message: waits for a link that is down */
	struct message m;
};

/* world.c */
void world_open(struct world *w, uint64_t seed, enum mutation mutation);
void world_close(struct world *w);
void world_run(struct world *w, uint64_t until);
void world_after(struct world *w, uint64_t delay, const struct sim_event *ev);
uint64_t world_random(struct world *w, uint64_t below);
bool world_chance(struct world *w, uint64_t one_in);
uint64_t host_now(const struct world *w, const struct host *h);
struct host *host_peer(struct world *w, const struct host *h);
__attribute__((format(printf, 2, 3))) void world_trace(struct world *w, const char *fmt, ...);

/* net.c */
void net_send(struct world *w, struct host *h, struct message m);
void net_close(struct world *w, struct host *h);
void net_receive(struct world *w, struct host *h, const struct message *m);

/* guest.c */
void guest_start(struct world *w, struct host *h, const struct snapshot *from);
void guest_drop(struct host *h);
void guest_release(struct world *w, struct host *h, uint64_t epoch);
void guest_forget_marks(struct host *h);
void guest_release_all(struct world *w, struct host *h);
void guest_mark(struct world *w, struct host *h, uint64_t epoch, struct snapshot *ret);

/* engine.c */
void engine_start(struct world *w, struct host *h, enum process process, const char *peer);
void engine_end(struct world *w, struct host *h);
int engine_role(struct world *w, struct host *h, const struct role_event *ev);
int engine_epoch(struct world *w, struct host *h, const struct epoch_event *ev);

/* backup.c */
int backup_part(struct world *w, struct host *h, const struct message *m);
void backup_take_over(struct world *w, struct host *h);
void backup_drop(struct host *h);

/* control.c */
void control_prepare(struct world *w, struct host *h, const struct message *m);
void control_persist(struct world *w, struct host *h, const struct record *rec);
void control_watch(struct world *w, struct host *h);

/* faults.c */
void faults_begin(struct world *w);
void fault_kill_host(struct world *w, struct host *h);

/* check.c */
__attribute__((format(printf, 2, 3))) void check_fail(struct world *w, const char *fmt, ...);
void check_emit(struct world *w, struct host *h, const struct output *out);
void check_takeover(struct world *w, const struct snapshot parts[static SIM_PARTS]);
void check_rights(struct world *w);
void check_end(struct world *w);

/* Runs one seed; "" or what was violated. */
void sim_run(struct world *w, uint64_t seed, enum mutation mutation);

#endif
