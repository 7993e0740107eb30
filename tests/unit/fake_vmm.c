/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-ins for what serves a VM: pollux-vmm, and pollux-xen, which finds its domain. */
#include "tests/unit/fake_programs.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"
#include "hypervisor/control/control.h"
#include "tools/common/json.h"

int fake_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int fake_take_signal(int fd)
{
	struct signalfd_siginfo info;

	return read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

/* --- any VM ------------------------------------------------------------------------------ */

struct fake_vmm {
	int fds[MAX_CONNECTIONS];
	bool watches[MAX_CONNECTIONS];
	const char *domain; /* of pollux-xen: its file, */
	unsigned int domid; /* what was in it first */
	const char *name;
	uint8_t state, reason;
};

static int listen_at(const char *dir, const char *name, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	snprintf(at.sun_path, sizeof(at.sun_path), "%.80s/%s", dir, name);
	unlink(at.sun_path); /* one that was started again in the same folder */
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 8) < 0) {
		perror(at.sun_path);
		exit(1);
	}
	return fd;
}

static void tell(struct fake_vmm *v, uint32_t state, uint32_t reason)
{
	v->state = (uint8_t)state;
	v->reason = (uint8_t)reason;
	for (unsigned int i = 0; i < MAX_CONNECTIONS; i++) {
		uint8_t message[8];
		struct cursor c = cursor_over(message, sizeof(message));

		cursor_put_u32(&c, state);
		cursor_put_u32(&c, reason);
		if (v->watches[i])
			send(v->fds[i], message, sizeof(message), MSG_NOSIGNAL);
	}
}

#define XEN_UUID "11111111-2222-3333-4444-%012x"

/* A domain's number, 0: there is none; its uuid is that of its name. */
static unsigned int read_domain(const char *file)
{
	FILE *f = fopen(file, "re");
	unsigned int domid = 0;

	if (f && fscanf(f, "%u", &domid) != 1)
		domid = 0;
	if (f)
		fclose(f);
	return domid;
}

static unsigned int sum_of(const char *name)
{
	unsigned int sum = 0;

	while (*name)
		sum = sum * 31 + (unsigned char)*name++;
	return sum;
}

static void say_hello(struct fake_vmm *v, struct cursor *out)
{
	unsigned int sum = sum_of(v->name);
	uint8_t uuid[16] = { 0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44 };

	for (int i = 15; i >= 12; i--, sum >>= 8)
		uuid[i] = (uint8_t)sum;
	cursor_put_u32(out, CONTROL_VERSION);
	cursor_put_u32(out, read_domain(v->domain));
	cursor_put_bytes(out, uuid, sizeof(uuid));
}

static int describe(struct fake_vmm *v, struct cursor *out)
{
	char text[1024], uuid[40];
	int fd = memfd_create("description", MFD_CLOEXEC), len;

	snprintf(uuid, sizeof(uuid), XEN_UUID, sum_of(v->name));
	len = snprintf(text, sizeof(text),
		       "{\"platform\":\"xen\",\"name\":\"%s\",\"uuid\":\"%s\",\"memory_mib\":128,"
		       "\"vcpus\":1,\"nics\":[{\"mac\":\"00:16:3e:00:00:01\"}],\"disks\":[],"
		       "\"xen\":{\"libxl\":{\"on_reboot\":\"restart\",\"on_crash\":\"preserve\"}}}",
		       v->name, uuid);
	if (fd < 0 || write(fd, text, (size_t)len) != len)
		exit(1);
	cursor_put_u64(out, (uint64_t)len);
	return fd;
}

/* One reply, with a descriptor if there is one. */
static void reply_to(int to, const void *reply, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} u = { 0 };
	struct iovec iov = { (void *)(uintptr_t)reply, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd >= 0) {
		m.msg_control = &u;
		m.msg_controllen = sizeof(u.room);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	sendmsg(to, &m, MSG_NOSIGNAL);
	if (fd >= 0)
		close(fd);
}

static void answer_vmm(struct fake_vmm *v, int to, uint32_t op)
{
	uint8_t room[256];
	struct cursor out = cursor_over(room, sizeof(room));
	int fd = -1;

	cursor_put_u32(&out, 0);
	if (v->domain && op == CONTROL_HELLO)
		say_hello(v, &out);
	if (v->domain && op == CONTROL_DESCRIBE)
		fd = describe(v, &out);
	if (op == CONTROL_PROCESSORS)
		cursor_put_u64(&out, 1);
	if (op == CONTROL_INFO) {
		cursor_put_u8(&out, v->state);
		cursor_put_u8(&out, v->reason);
	}
	reply_to(to, room, (size_t)(out.pos - room), fd);
}

static void serve_vmm(struct fake_vmm *v, unsigned int i)
{
	uint8_t message[256];
	ssize_t len = recv(v->fds[i], message, sizeof(message), 0);
	struct cursor c = cursor_over(message, len > 0 ? (size_t)len : 0);
	uint32_t op = cursor_get_u32(&c);

	if (len <= 0) {
		close(v->fds[i]);
		v->fds[i] = -1;
		v->watches[i] = false;
		return;
	}
	answer_vmm(v, v->fds[i], op);
	if (op == CONTROL_WATCH) {
		v->watches[i] = true;
		tell(v, v->state, v->reason);
	}
	if (op != CONTROL_SHUTDOWN)
		return;
	switch (cursor_get_u8(&c)) {
	case CONTROL_DESTROY:
		if (v->domain)
			unlink(v->domain);
		exit(0);
	case CONTROL_POWEROFF:
		tell(v, CONTROL_STOPPED, CONTROL_POWEROFF);
	}
}

static void keep(struct fake_vmm *v, int fd)
{
	for (unsigned int i = 0; i < MAX_CONNECTIONS; i++)
		if (v->fds[i] < 0) {
			v->fds[i] = fd;
			return;
		}
	close(fd);
}

/* Answers one visitor of the console and says goodbye. */
static void greet(int fd)
{
	char line[128] = "";

	if (write(fd, "login: ", 7) == 7 && read(fd, line, sizeof(line) - 1) > 0)
		dprintf(fd, "hello %s", line);
	close(fd);
}

/* A domain that is gone is told once; of one that had ended before, by our own end. */
static void look_at_domain(struct fake_vmm *v)
{
	if (!v->domain || v->reason == CONTROL_DESTROY || read_domain(v->domain) == v->domid)
		return;
	if (v->state == CONTROL_STOPPED)
		exit(0);
	tell(v, CONTROL_STOPPED, CONTROL_DESTROY);
}

__attribute__((noreturn)) static void run_vmm(struct fake_vmm v, const char *dir)
{
	int control, console, signals = fake_signals();

	for (unsigned int i = 0; i < MAX_CONNECTIONS; i++)
		v.fds[i] = -1;
	if (v.domain)
		v.domid = read_domain(v.domain);
	console = listen_at(dir, "console", SOCK_STREAM);
	control = listen_at(dir, "control", SOCK_SEQPACKET);
	for (;;) {
		struct pollfd p[3 + MAX_CONNECTIONS] = { { .fd = control, .events = POLLIN },
							 { .fd = console, .events = POLLIN },
							 { .fd = signals, .events = POLLIN } };

		for (unsigned int i = 0; i < MAX_CONNECTIONS; i++)
			p[3 + i] = (struct pollfd){ .fd = v.fds[i], .events = POLLIN };
		poll(p, ARRAY_SIZE(p), v.domain ? 50 : -1);
		look_at_domain(&v);
		if (p[0].revents)
			keep(&v, accept(control, NULL, NULL));
		if (p[1].revents)
			greet(accept(console, NULL, NULL));
		if (p[2].revents)
			tell(&v, CONTROL_STOPPED,
			     fake_take_signal(signals) == SIGUSR1 ? CONTROL_REBOOT : CONTROL_CRASH);
		for (unsigned int i = 0; i < MAX_CONNECTIONS; i++)
			if (p[3 + i].revents)
				serve_vmm(&v, i);
	}
}

int fake_vmm(const char *dir, const char *config)
{
	struct json_object *o;
	struct reason why;

	if (json_read_file(config, &o, &why) < 0) {
		fprintf(stderr, "<3>pollux-vmm: %s\n", why.text);
		return 1;
	}
	json_object_put(o);
	if (getenv("FAKE_VMM_FAILS")) {
		fprintf(stderr, "<3>pollux-vmm: cannot start: %s\n", getenv("FAKE_VMM_FAILS"));
		return 1;
	}
	run_vmm((struct fake_vmm){ .state = CONTROL_RUNNING }, dir);
}

/* --- pollux-xen ------------------------------------------------------------------------------- */

static void domain_file(const char *name, const char *suffix, char *ret, size_t room)
{
	snprintf(ret, room, "%s/%s%s", getenv("FAKE_XEN") ?: "/nonexistent", name, suffix);
}

static int xen_fails(const char *what, const char *why)
{
	fprintf(stderr, "<3>pollux-xen: domain %s: %s\n", what, why);
	return 1;
}

/* By name, or by number: those that a test has are found by looking at all names. */
static const char *find_domain(const char *which, char *file, size_t room)
{
	static const char *const names[] = { "web", "db", NULL };

	for (unsigned int i = 0; names[i]; i++) {
		domain_file(names[i], "", file, room);
		if (read_domain(file) &&
		    (!strcmp(names[i], which) || read_domain(file) == strtoul(which, NULL, 10)))
			return names[i];
	}
	return NULL;
}

static int run_xen_adopt(const char *dir, const char *which)
{
	char file[200], bad[220], text[100] = "";
	const char *name = find_domain(which, file, sizeof(file));
	struct fake_vmm v = { .domain = file, .name = name, .state = CONTROL_RUNNING };
	FILE *f;

	if (!name)
		return xen_fails(which, "there is none");
	domain_file(name, ".bad", bad, sizeof(bad));
	f = fopen(bad, "re");
	if (f) {
		if (!fgets(text, sizeof(text), f))
			text[0] = '\0';
		fclose(f);
		return xen_fails(which, text);
	}
	run_vmm(v, dir);
}

static int run_xen_make(const char *dir, const char *config, bool standby)
{
	struct fake_vmm v = { .state = standby ? CONTROL_PAUSED : CONTROL_RUNNING };
	struct json_object *o;
	struct reason why;
	char file[200];
	FILE *f;

	if (json_read_file(config, &o, &why) < 0)
		return xen_fails(config, why.text);
	v.name = json_text(o, "name", "?");
	domain_file(v.name, "", file, sizeof(file));
	v.domain = file;
	if (read_domain(file))
		return xen_fails(v.name, "exists already");
	f = fopen(file, "we");
	if (!f || fprintf(f, "%d\n", (int)getpid()) < 0 || fclose(f))
		return xen_fails(v.name, "cannot be made");
	run_vmm(v, dir);
}

int fake_xen(const char *dir, const char *adopt, const char *config, bool standby)
{
	return adopt ? run_xen_adopt(dir, adopt) : run_xen_make(dir, config, standby);
}
