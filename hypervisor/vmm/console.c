/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/console.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "hypervisor/vmm/serial.h"
#include "hypervisor/vmm/vm.h"

#define INPUT_BYTES   256u
#define OUTPUT_BYTES  (64u << 10)
#define BATCH_BYTES   4096u
#define LOG_MAX_BYTES (UINT64_C(16) << 20)

struct console {
	struct vm *vm;
	int log_fd, listen_fd;
	int output_fd; /* eventfd: `output` is no longer empty */
	int room_fd;   /* eventfd: the serial port has room again */
	int quit_fd;   /* eventfd: the thread shall end */
	pthread_t thread;
	bool started;

	pthread_mutex_t lock; /* the four below */
	uint64_t head, tail;  /* positions in `output`, modulo its size */
	uint64_t lost;	      /* bytes that found no room, not yet told */
	uint8_t output[OUTPUT_BYTES];

	/* The thread's own. */
	int client[CONSOLE_MAX_CLIENTS]; /* -1: free */
	uint64_t log_bytes;
	uint8_t input[INPUT_BYTES]; /* what the serial port had no room for yet */
	size_t nr_input;
};

static int listen_at(const char *run_dir, struct reason *why)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/console", run_dir);
	unlink(address.sun_path);
	if (fd < 0 || fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(fd, CONSOLE_MAX_CLIENTS))
		return reason_set(why, errno, "%s: %s", address.sun_path, strerror(errno));
	return take_fd(&fd);
}

static int open_log(const char *run_dir, struct reason *why)
{
	char path[VM_RUN_DIR_MAX + 16];
	int fd;

	snprintf(path, sizeof(path), "%s/serial.log", run_dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	return fd;
}

static uint64_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : (uint64_t)st.st_size;
}

int console_open(struct vm *vm, struct console **ret, struct reason *why)
{
	struct console *console = calloc(1, sizeof(*console));
	int err;

	if (!console)
		return -ENOMEM;
	console->vm = vm;
	pthread_mutex_init(&console->lock, NULL);
	for (size_t i = 0; i < CONSOLE_MAX_CLIENTS; i++)
		console->client[i] = -1;
	console->listen_fd = -1;
	console->output_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	console->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	console->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	console->log_fd = err = open_log(vm->run_dir, why);
	if (err >= 0)
		console->listen_fd = err = listen_at(vm->run_dir, why);
	if (err < 0) {
		console_close(console);
		return err;
	}
	console->log_bytes = size_of(console->log_fd);
	*ret = console;
	return 0;
}

/* --- output ------------------------------------------------------------------------------ */

/* On a vCPU thread, under the serial port's lock: a few stores, never the disk. */
void console_output(struct console *console, const uint8_t *data, size_t len)
{
	size_t room, taken;
	bool was_empty;

	if (!console)
		return;
	pthread_mutex_lock(&console->lock);
	was_empty = console->head == console->tail;
	room = OUTPUT_BYTES - (size_t)(console->head - console->tail);
	taken = MIN(len, room);
	for (size_t i = 0; i < taken; i++)
		console->output[console->head++ % OUTPUT_BYTES] = data[i];
	console->lost += len - taken;
	pthread_mutex_unlock(&console->lock);
	if (was_empty)
		eventfd_write(console->output_fd, 1);
}

/* A full disk or socket loses console output, nothing else. The log starts over when it is
 * full, so a chatty guest cannot fill the host's disk (P4). */
static void put(struct console *console, const uint8_t *data, size_t len)
{
	if (console->log_bytes + len > LOG_MAX_BYTES && ftruncate(console->log_fd, 0) == 0)
		console->log_bytes = 0;
	if (write(console->log_fd, data, len) == (ssize_t)len)
		console->log_bytes += len;
	for (size_t i = 0; i < CONSOLE_MAX_CLIENTS; i++)
		if (console->client[i] >= 0 &&
		    send(console->client[i], data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			continue;
}

/* What was lost is told once the ring is empty: about where it is missing. */
static size_t take_output(struct console *console, uint8_t ret[BATCH_BYTES], uint64_t *ret_lost)
{
	size_t n;

	pthread_mutex_lock(&console->lock);
	n = (size_t)MIN(console->head - console->tail, BATCH_BYTES);
	for (size_t i = 0; i < n; i++)
		ret[i] = console->output[console->tail++ % OUTPUT_BYTES];
	*ret_lost = 0;
	if (console->head == console->tail) {
		*ret_lost = console->lost;
		console->lost = 0;
	}
	pthread_mutex_unlock(&console->lock);
	return n;
}

static void drain(struct console *console)
{
	uint8_t batch[BATCH_BYTES];
	uint64_t lost;
	char note[64];
	size_t n;

	do {
		n = take_output(console, batch, &lost);
		put(console, batch, n);
		if (lost) {
			snprintf(note, sizeof(note), "\r\n[%llu bytes of output lost]\r\n",
				 (unsigned long long)lost);
			put(console, (const uint8_t *)note, strlen(note));
		}
	} while (n == BATCH_BYTES);
}

/* --- the thread -------------------------------------------------------------------------- */

static void set_client(struct console *console, size_t i, int fd)
{
	if (console->client[i] >= 0)
		close(console->client[i]);
	console->client[i] = fd;
}

static void accept_client(struct console *console)
{
	int fd = accept4(console->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (size_t i = 0; i < CONSOLE_MAX_CLIENTS; i++) {
		if (console->client[i] < 0) {
			set_client(console, i, fd);
			return;
		}
	}
	close(fd);
}

static void pass_input(struct console *console)
{
	size_t taken;

	gate_enter(&console->vm->gate);
	taken = serial_input(console->vm->serial, console->input, console->nr_input,
			     console->room_fd);
	gate_leave(&console->vm->gate);
	console->nr_input -= taken;
	memmove(console->input, console->input + taken, console->nr_input);
}

static void read_client(struct console *console, size_t i)
{
	ssize_t n = read(console->client[i], console->input, sizeof(console->input));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		set_client(console, i, -1);
		return;
	}
	console->nr_input = (size_t)n;
	pass_input(console);
}

enum { LISTEN = CONSOLE_MAX_CLIENTS, ROOM, OUTPUT, QUIT, NR_FDS };

/* While input waits for room, nobody is read: the typist's socket fills up. */
static void *console_thread(void *arg)
{
	struct console *console = arg;
	struct pollfd fds[NR_FDS];
	uint64_t count;

	pthread_setname_np(pthread_self(), "console");
	for (;;) {
		for (size_t i = 0; i < CONSOLE_MAX_CLIENTS; i++)
			fds[i] = (struct pollfd){ .fd = console->nr_input ? -1 : console->client[i],
						  .events = POLLIN };
		fds[LISTEN] = (struct pollfd){ console->listen_fd, POLLIN, 0 };
		fds[ROOM] = (struct pollfd){ console->room_fd, POLLIN, 0 };
		fds[OUTPUT] = (struct pollfd){ console->output_fd, POLLIN, 0 };
		fds[QUIT] = (struct pollfd){ console->quit_fd, POLLIN, 0 };
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (read(console->output_fd, &count, sizeof(count)) > 0)
			drain(console);
		if (fds[QUIT].revents)
			return NULL;
		if (fds[LISTEN].revents)
			accept_client(console);
		if (read(console->room_fd, &count, sizeof(count)) > 0 && console->nr_input)
			pass_input(console);
		for (size_t i = 0; i < CONSOLE_MAX_CLIENTS && !console->nr_input; i++)
			if (fds[i].fd >= 0 && fds[i].revents)
				read_client(console, i);
	}
}

int console_start(struct console *console)
{
	int err = pthread_create(&console->thread, NULL, console_thread, console);

	console->started = err == 0;
	return -err;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void console_close(struct console *console)
{
	uint64_t one = 1;

	if (!console)
		return;
	if (console->started && write(console->quit_fd, &one, sizeof(one)) > 0)
		pthread_join(console->thread, NULL);
	if (console->log_fd >= 0)
		drain(console);
	for (size_t i = 0; i < CONSOLE_MAX_CLIENTS; i++)
		close_if_open(console->client[i]);
	close_if_open(console->log_fd);
	close_if_open(console->listen_fd);
	close_if_open(console->output_fd);
	close_if_open(console->room_fd);
	close_if_open(console->quit_fd);
	free(console);
}
