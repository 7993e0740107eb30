/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the lab runs a command inside a node: one TCP connection a command, on the
 * management network, which no test ever cuts.
 *
 * Both directions carry frames: u8 type, u32 length (little-endian, at most
 * AGENT_FRAME_MAX), that many bytes. The caller sends COMMAND first, then INPUT
 * as its standard input delivers; an empty INPUT is end of file. The agent sends
 * OUTPUT and ERRORS, and ends with EXIT. COMMAND holds u8 terminal, then the
 * arguments, each ended by a NUL; a single argument goes to `sh -c`.
 *
 * The network is private to the lab and unauthenticated on purpose: what stands
 * on it can already read the nodes' memory.
 */
#ifndef POLLUX_LAB_AGENT_H
#define POLLUX_LAB_AGENT_H

#include <stddef.h>
#include <stdint.h>

#define AGENT_PORT	7399
#define AGENT_FRAME_MAX 65536u
#define AGENT_ARGS_MAX	256

enum agent_frame {
	AGENT_COMMAND = 1,
	AGENT_INPUT,
	AGENT_OUTPUT,
	AGENT_ERRORS,
	AGENT_EXIT, /* u32: exit status, or 128 + signal */
};

/* Both send and receive whole frames; -ECONNRESET when the peer is gone. */
int agent_send(int fd, enum agent_frame type, const void *data, size_t len);
int agent_receive(int fd, enum agent_frame *ret_type, uint8_t buf[AGENT_FRAME_MAX],
		  size_t *ret_len);
int agent_write_all(int fd, const void *data, size_t len);

/* The roles of the program; each returns the exit status of the process. */
int agent_serve(void);
int agent_keys(void); /* a process stays behind */
int agent_tsc(void);
int agent_call(const char *host, int terminal, char **argv);
int agent_console(const char *socket_path);
int agent_forward(const char *port, char **argv);

#endif
