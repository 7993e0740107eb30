/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of commit, takeover and hand-over, for spin. No time at all: the backup may lose
 * patience at any moment, so what holds here holds by construction (P3) and not by the lease.
 *
 * The guest's history is a number, `v`: it ends epoch v and what it emitted in it is output v.
 * `seen` is the newest output a client has. An epoch travels as two parts (memory, disk); the
 * backup holds the last whole one. Engines crash and restart from their record, hosts die,
 * connections break at one end before the other, answers to "prepare" arrive late.
 *
 * P1: a takeover knows every output that was seen, and none after it contradicts it.
 * P2: what a takeover runs has memory and disk of one epoch.
 * P3: never do both hosts hold the right to emit without an acknowledgement.
 *
 * A switchover runs on exactly where the primary stopped.
 *
 * MUTATE_n breaks one rule each; spin must then find an error.
 */
#ifndef MAXV
#define MAXV 4 /* epochs */
#endif
#ifndef MAXG
#define MAXG 5 /* generations */
#endif
#ifndef MAXFAULTS
#define MAXFAULTS 2 /* crashes */
#endif
#define IN_FLIGHT 2

mtype = { SOLO, ARMING, PROTECTED, STALLED, FENCED, DEAD };	     /* primary */
mtype = { WAITING, FILLING, ARMED, TAKING_OVER, ACTIVE, HANDED_OVER }; /* backup */
mtype = { R_ACTIVE, R_PRIMARY, R_BACKUP, R_STOPPED };		     /* records */
mtype = { MEMORY, DISK, ACK, HANDOVER, REFUSE, PREPARE };	     /* messages */

chan p2b = [4] of { mtype, byte, byte };   /* one connection: type, generation, epoch */
chan b2p = [4] of { mtype, byte, byte };
chan asks = [1] of { byte };		   /* "prepare", each its own connection */
chan answers = [2] of { mtype, byte };

mtype ps = SOLO, p_disk = R_ACTIVE;
byte pg = 1, p_disk_g = 1;
bool p_up = true, p_conn, begun;
byte p_writes;		       /* generation that is being written as ACTIVE; 0: none */
bool p_arms;		       /* PRIMARY is being written */
byte v, acked, sent, half;     /* half: the epoch whose memory is sent and disk is not */

mtype bs = WAITING, b_disk = R_BACKUP;
byte bg = 1, b_disk_g = 1;
bool b_up = true, b_conn, b_written, b_answers;
byte memory, disk, arriving;   /* the standby; the epoch of which memory has come */
byte whole;
bool b_runs; /* the VM runs there, whatever its engine remembers */

byte seen, faults, run_from;
byte left; /* a switchover: the last epoch that ran on the primary */

#define p_right  ((p_up && ps == SOLO) || (!p_up && ps != DEAD && p_disk == R_ACTIVE))
#define b_right  (bs == ARMED || bs == TAKING_OVER || b_runs)

inline check_rights()
{
	assert(!(p_right && b_right)); /* P3 */
}

inline emit(n)
{
	if
	:: n > seen -> seen = n
	:: else
	fi;
	/* P1: after a takeover the old host may at most repeat what the new one knows. */
	assert(!b_runs || n <= run_from)
}

inline drop_standby()
{
	memory = 0; disk = 0; arriving = 0; whole = 0
}

inline flush(c)
{
	do
	:: len(c) > 0 -> c?_, _, _
	:: else -> break
	od
}

inline p_lose()
{
	p_conn = false; half = 0;
	if
	:: ps == ARMING && !begun -> p_arms = false; p_disk = R_ACTIVE; ps = SOLO; check_rights()
	:: ps == PROTECTED || (ps == ARMING && begun) -> ps = STALLED
	:: else
	fi
}

inline p_restart()
{
	p_up = true;
	if
	:: p_disk == R_ACTIVE -> ps = SOLO; pg = p_disk_g; check_rights()
	:: p_disk == R_PRIMARY -> ps = STALLED; pg = p_disk_g
	:: p_disk == R_STOPPED -> ps = FENCED
	fi
}

#define p_runs (p_up && ps != FENCED && ps != DEAD)

active proctype Primary()
{
	byte g, e;
	mtype what;
end:
	do
	/* The guest, with the right: what it emits is seen at once. */
	:: atomic { p_runs && ps == SOLO && v < MAXV -> v++; emit(v) }
#ifdef MUTATE_8 /* output flows while the backup is being armed */
	:: atomic { p_runs && ps == ARMING && begun && v < MAXV && v - acked < IN_FLIGHT ->
		    v++; emit(v) }
#endif
	/* Without: it runs on, an epoch ends, its output is held (P1). */
	:: atomic { p_runs && begun && p_conn && (ps == ARMING || ps == PROTECTED) && v < MAXV &&
		    v - acked < IN_FLIGHT -> v++ }
	:: atomic { p_runs && begun && p_conn && !half && sent < v && nfull(p2b) ->
		    p2b!MEMORY(pg, sent + 1); half = sent + 1 }
	:: atomic { p_runs && begun && p_conn && half && nfull(p2b) ->
		    p2b!DISK(pg, half); sent = half; half = 0;
#ifdef MUTATE_1 /* release at send */
		    emit(sent)
#endif
		  }

	/* "prepare", whenever there is no backup; answers may be late. */
	:: atomic { p_runs && (ps == SOLO || ps == STALLED) && !p_conn && !p_writes &&
		    nfull(asks) && pg < MAXG -> asks!pg }
	:: atomic { p_runs && answers?[HANDOVER, g] -> answers?HANDOVER, g;
		    if
#ifdef MUTATE_3 /* any generation will do */
		    :: g > pg -> p_lose(); p_writes = g
		    :: else -> p_lose(); p_writes = pg
#else
		    :: g > pg && !p_conn && g > p_writes -> p_writes = g
		    :: else
#endif
		    fi }
	:: atomic { len(answers) == 2 -> answers?what, g; answers!what, g } /* overtaken */
	:: atomic { p_up && answers?[REFUSE, g] -> answers?REFUSE, g;
		    if
		    :: g > pg && ps != DEAD -> ps = FENCED; p_conn = false; p_writes = 0;
					       p_disk = R_STOPPED; p_disk_g = g
		    :: else
		    fi }
	/* On disk, then used. */
	:: atomic { p_runs && p_writes -> p_disk = R_ACTIVE; p_disk_g = p_writes; pg = p_writes;
		    p_writes = 0; ps = SOLO; begun = false; emit(v); check_rights() }

	/* Both ends agree on the generation: connected. */
	:: atomic { p_runs && ps == SOLO && !p_conn && !p_writes && b_up && bs == HANDED_OVER &&
		    b_written && bg == pg ->
		    flush(p2b); flush(b2p); p_conn = true; b_conn = true; begun = false;
		    bs = FILLING; drop_standby() }
	/* Copied: give the right away, on disk first. */
	:: atomic { p_runs && ps == SOLO && p_conn && !p_writes -> ps = ARMING; p_arms = true }
	:: atomic { p_runs && ps == ARMING && p_arms -> p_arms = false;
#ifndef MUTATE_5 /* not on disk */
		    p_disk = R_PRIMARY;
#endif
		    begun = true; acked = v; sent = v; half = 0 }

	:: atomic { p_runs && p_conn && b2p?[ACK, g, e] -> b2p?ACK, g, e;
		    assert(e <= sent); acked = e;
		    if
		    :: ps == ARMING || ps == STALLED -> ps = PROTECTED
		    :: else
		    fi;
		    emit(e) }
	:: atomic { p_runs && p_conn && b2p?[HANDOVER, g, _] -> b2p?HANDOVER, g, _;
		    p_lose();
		    if
		    :: g > pg -> p_writes = g
		    :: else
		    fi }
	/* Switchover: the guest stands still after its last epoch, which is acknowledged. */
	:: atomic { p_runs && p_conn && ps == PROTECTED && !p_writes && sent == v &&
#ifndef MUTATE_9 /* it is only sent */
		    acked == v &&
#endif
		    !left -> left = v; ps = FENCED; p_disk = R_STOPPED; p_disk_g = pg;
		    p_conn = false }
	:: atomic { p_runs && p_conn -> p_lose() } /* the connection breaks at this end */

	/* Faults. */
	:: atomic { p_up && ps != DEAD && faults < MAXFAULTS -> faults++; p_up = false;
		    p_conn = false; p_writes = 0; p_arms = false; half = 0; begun = false }
	:: atomic { !p_up && ps != DEAD -> p_restart() }
	:: atomic { p_up && ps != DEAD && faults < MAXFAULTS -> faults++; ps = DEAD;
		    p_conn = false }
	od
}

#ifdef MUTATE_6 /* the standby stays */
#define keeps_standby (bs == ARMED)
#else
#define keeps_standby false
#endif

inline hand_over(to)
{
	if
	:: keeps_standby
	:: else -> drop_standby(); bs = HANDED_OVER
	fi;
	bg = to; b_conn = false; b_written = false; b_answers = true
}

active proctype Backup()
{
	byte g, e;
end:
	do
	:: atomic { b_up && bg < MAXG && asks?[g] -> asks?g;
		    if
		    :: bs == ACTIVE && len(answers) < 2 -> answers!REFUSE(bg)
		    :: bs == ACTIVE && len(answers) == 2
		    :: bs == TAKING_OVER -> skip /* no answer: it may still fail */
		    :: (bs == FILLING || bs == ARMED) && g < bg -> skip /* an old request */
		    :: else ->
		       if
		       :: g < bg -> g = bg
		       :: else
		       fi;
		       hand_over(g + 1)
		    fi }
	/* Its generation is on disk before anybody hears of it. */
	:: atomic { b_up && b_answers && nfull(answers) ->
		    b_disk = R_BACKUP; b_disk_g = bg; b_written = true; b_answers = false;
		    answers!HANDOVER(bg) }

	:: atomic { b_up && b_conn && p2b?[MEMORY, g, e] -> p2b?MEMORY, g, e;
		    if
		    :: g == bg && (bs == FILLING || bs == ARMED) -> arriving = e;
#ifdef MUTATE_4 /* acknowledged before it is whole */
		       if
		       :: len(b2p) < 4 -> b2p!ACK(bg, e)
		       :: else
		       fi
#endif
		    :: else
		    fi }
	:: atomic { b_up && b_conn && p2b?[DISK, g, e] && nfull(b2p) -> p2b?DISK, g, e;
		    if
		    :: g == bg && (bs == FILLING || bs == ARMED) && arriving == e ->
		       memory = e; disk = e; whole = e; arriving = 0; bs = ARMED;
		       check_rights();
#ifndef MUTATE_4
		       b2p!ACK(bg, e)
#endif
		    :: else
		    fi }
	:: atomic { b_conn -> b_conn = false; /* breaks at this end */
		    if
		    :: bs == FILLING -> drop_standby(); bs = WAITING
		    :: else
		    fi }

	/* Cannot go on (its disk): gives the right back. */
	:: atomic { b_up && bs == ARMED && bg < MAXG -> hand_over(bg + 1) }
	/* Patience ends at any moment. */
	:: atomic { b_up && bs == ARMED && bg < MAXG && !b_answers -> bs = TAKING_OVER; bg++;
		    b_written = false;
#ifdef MUTATE_7 /* what has arrived is taken for whole */
		    if
		    :: arriving -> memory = arriving
		    :: else
		    fi;
#endif
		    b_conn = false }
	:: atomic { b_up && bs == TAKING_OVER && !b_written ->
#ifndef MUTATE_2 /* used before it is on disk */
		    b_disk = R_ACTIVE; b_disk_g = bg;
#endif
		    b_written = true }
	:: atomic { b_up && bs == TAKING_OVER && b_written ->
		    assert(memory == disk && memory == whole && whole); /* P2 */
		    assert(whole >= seen);				  /* P1 */
		    assert(!left || whole == left); /* a switchover loses nothing */
		    run_from = whole; bs = ACTIVE; b_runs = true; check_rights() }
	/* It fails before the guest ran: the right goes back, on disk first. */
	:: atomic { b_up && bs == TAKING_OVER && b_written && bg < MAXG -> hand_over(bg + 1) }

	/* The engine crashes: what it held in memory is gone; a VM that runs goes on. */
	:: atomic { b_up && faults < MAXFAULTS -> faults++; b_conn = false; b_answers = false;
		    bg = b_disk_g;
		    if
		    :: bs == ACTIVE && b_disk == R_ACTIVE
		    :: bs != ACTIVE && b_disk == R_ACTIVE -> drop_standby(); b_up = false
		    :: else -> drop_standby(); bs = WAITING
		    fi }
	od
}
