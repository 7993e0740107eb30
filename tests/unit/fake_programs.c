/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stand-ins for pollux-vmm, pollux-xen and pollux-ha, told apart by their arguments, for tests
 * of polluxd and the command line that run no guest. They speak the real protocols: the control
 * socket, the local socket, and, as a primary, the real errand to the other host's polluxd.
 *
 * pollux-vmm: SIGUSR1 reboots the guest, SIGUSR2 crashes it.
 * pollux-xen: the domains of a host are files in $FAKE_XEN, NAME holds its number. Signals as
 * pollux-vmm; a file that goes is a domain that somebody has destroyed. $FAKE_XEN/NAME.bad
 * holds why it cannot be protected.
 * pollux-ha: SIGUSR1 on a backup takes over. STATE/VM/ends: after how many seconds it ends,
 * without an answer to anybody.
 * With --raw SOCKET: sends its input there and prints the answer, NUL bytes as newlines.
 */
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/ipc.h"
#include "ha/errand.h"
#include "ha/record.h"
#include "ha/settings.h"
#include "tests/unit/fake_programs.h"
#include "tools/common/json.h"

/* --- pollux-ha -------------------------------------------------------------------------------- */

static struct {
	struct settings s;
	pthread_mutex_t lock;
	struct record rec;
	const char *role;
	char word[300];
	unsigned int refusals;
	bool ends;
} ha = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void set_word(const char *role, const char *word)
{
	pthread_mutex_lock(&ha.lock);
	ha.role = role;
	snprintf(ha.word, sizeof(ha.word), "%s", word);
	pthread_mutex_unlock(&ha.lock);
}

static void persist(enum record_role role, uint64_t generation)
{
	struct reason why;

	ha.rec.role = role;
	ha.rec.generation = generation;
	snprintf(ha.rec.peer, sizeof(ha.rec.peer), "%s", ha.s.peer);
	if (record_write(ha.s.record_dir, &ha.rec, &why) < 0) {
		fprintf(stderr, "%s\n", why.text);
		exit(1);
	}
}

static char *make_prepare(void)
{
	struct json_object *o = json_object_new_object(), *disks = json_object_new_array();
	struct json_object *list = json_member(ha.s.config, "disks");
	char *text;

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *disk = json_object_new_object();

		json_add_copy(disk, "path", json_object_array_get_idx(list, i));
		json_add_u64(disk, "bytes", 1 << 20);
		json_object_array_add(disks, disk);
	}
	json_add_string(o, "verb", "prepare");
	json_add_string(o, "vm", ha.s.vm);
	json_add_string(o, "uuid", ha.s.uuid_text);
	json_add_string(o, "from", getenv("FAKE_HA_FROM") ?: ha.s.host);
	json_add_u64(o, "generation", ha.rec.generation);
	json_add(o, "config", json_copy(ha.s.config));
	json_add(o, "options", json_copy(ha.s.options));
	json_add(o, "disks", disks);
	json_add_u64(o, "memory_bytes", json_number(ha.s.config, "memory_mib", 0) << 20);
	json_add_u64(o, "timeout_ns", ha.s.timeout_ns);
	text = strdup(json_line(o));
	json_object_put(o);
	return text;
}

static int ask_backup(struct tls_context *tls)
{
	struct errand_peer peer = {
		.to = { ha.s.peer_host, ha.s.peer_port },
		.peer_name = ha.s.peer,
		.deadline_ns = clock_now_ns() + 20 * NS_PER_S,
		.interrupt_fd = -1,
	};
	cleanup_free char *request = make_prepare(), *reply = NULL;
	cleanup_json struct json_object *o = NULL;
	struct refusal refusal = { 0 };
	char word[300];

	if (errand_call(tls, &peer, request, &reply, &refusal) < 0) {
		snprintf(word, sizeof(word), "not protected: %s", refusal.why.text);
	} else if (json_parse(reply, "reply", &o, NULL) < 0 || !json_flag(o, "ok")) {
		snprintf(word, sizeof(word), "not protected: %s: %s", json_text(o, "code", "?"),
			 json_text(o, "error", reply));
	} else {
		persist(RECORD_PRIMARY, json_number(o, "generation", 0));
		set_word("primary", "protected");
		return 0;
	}
	set_word("primary", word);
	pthread_mutex_lock(&ha.lock);
	ha.refusals++;
	pthread_mutex_unlock(&ha.lock);
	return -EAGAIN;
}

static void *be_primary(void *unused)
{
	struct tls_settings t = { ha.s.encryption, ha.s.ca, ha.s.cert, ha.s.key };
	struct tls_context *tls;
	struct refusal refusal = { 0 };

	(void)unused;
	if (tls_context_open(&tls, &t, &refusal) < 0) {
		fprintf(stderr, "%s\n", refusal.why.text);
		exit(1);
	}
	while (ask_backup(tls) < 0)
		nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
	return NULL;
}

static struct json_object *make_status(void)
{
	struct json_object *o = json_object_new_object(), *status = json_object_new_object();
	struct json_object *lag = json_object_new_object();

	json_add_string(status, "name", ha.s.vm);
	pthread_mutex_lock(&ha.lock);
	json_add_string(status, "role", ha.role);
	json_add_string(status, "state",
			ha.s.side != ROLE_PRIMARY      ? ha.role
			: strcmp(ha.word, "protected") ? "solo"
						       : "protected");
	json_add_string(status, "word", ha.word);
	json_add_bool(status, "protected", !strcmp(ha.word, "protected"));
	pthread_mutex_unlock(&ha.lock);
	json_add_u64(status, "generation", ha.rec.generation);
	json_add_u64(status, "epochs_committed", 7);
	json_add_u64(lag, "now", 12 * NS_PER_MS);
	json_add(status, "lag_ns", lag);
	json_add_bool(o, "ok", true);
	json_add(o, "status", status);
	return o;
}

static struct json_object *rejoin(struct json_object *request)
{
	struct json_object *o = json_object_new_object();
	uint64_t asked = json_number(request, "generation", 0);
	bool active = !strcmp(ha.role, "active");

	json_add_bool(o, "ok", !active);
	if (active) {
		json_add_string(o, "code", "active");
		json_add_string(o, "error", "it runs here");
	} else {
		persist(RECORD_BACKUP, MAX(asked, ha.rec.generation) + 1);
	}
	json_add_u64(o, "generation", ha.rec.generation);
	return o;
}

static struct json_object *answer_ha(struct json_object *request)
{
	const char *verb = json_text(request, "verb", "");
	struct json_object *o;

	if (!strcmp(verb, "status"))
		return make_status();
	if (!strcmp(verb, "rejoin"))
		return rejoin(request);
	o = json_object_new_object();
	if (!strcmp(verb, "failover")) {
		json_add_bool(o, "ok", false);
		json_add_string(o, "code", "unsafe");
		json_add_string(o, "error", "the primary is still heard");
		return o;
	}
	json_add_bool(o, "ok", true);
	/* A backup that has less than a second is too slow. */
	if (!strcmp(verb, "switchover") && json_number(request, "timeout_ns", 0) >= NS_PER_S)
		persist(RECORD_STOPPED, ha.rec.generation);
	if (!strcmp(verb, "unprotect")) {
		persist(RECORD_ACTIVE, ha.rec.generation + 1);
		ha.ends = true;
	}
	return o;
}

/* As the engine says why there is no backup. To everybody: who did not ask ignores it. */
static void tell_refusal(struct ipc *const *conn)
{
	struct json_object *o = json_object_new_object(), *event = json_object_new_object();

	json_add_string(event, "kind", "no-backup");
	pthread_mutex_lock(&ha.lock);
	json_add_string(event, "text", ha.word);
	pthread_mutex_unlock(&ha.lock);
	json_add(o, "event", event);
	for (unsigned int i = 0; i < MAX_CONNECTIONS; i++)
		if (conn[i])
			ipc_send(conn[i], json_line(o));
	json_object_put(o);
}

static void serve_ha(struct ipc **c)
{
	struct json_object *request, *reply;
	const char *text;
	int r;

	while (!(r = ipc_receive(*c, &text))) {
		if (json_parse(text, "request", &request, NULL) < 0)
			continue;
		reply = answer_ha(request);
		ipc_send(*c, json_line(reply));
		json_object_put(reply);
		json_object_put(request);
	}
	if (r != -EAGAIN) {
		ipc_close(*c);
		*c = NULL;
	}
}

static void take_role(void)
{
	struct reason why;
	pthread_t thread;

	if (record_read(ha.s.record_dir, &ha.rec, &why) < 0)
		ha.rec.generation = 1;
	if (ha.s.side == ROLE_BACKUP) {
		set_word("backup", "protected");
		return;
	}
	persist(RECORD_ACTIVE, ha.rec.generation);
	set_word("primary", "not protected: no backup");
	pthread_create(&thread, NULL, be_primary, NULL);
}

static void end_early(void)
{
	char path[sizeof(ha.s.record_dir) + 8];
	unsigned int seconds = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/ends", ha.s.record_dir);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fscanf(f, "%u", &seconds) == 1)
		sleep(seconds);
	fprintf(stderr, "<3>pollux-ha: it cannot be protected\n");
	exit(1);
}

static int run_ha(const char *file)
{
	struct ipc *conn[MAX_CONNECTIONS] = { NULL };
	struct reason why;
	unsigned int told = 0;
	bool refused;
	int fd, signals = fake_signals();

	if (settings_read(file, &ha.s, &why) < 0 || ipc_listen(ha.s.socket, 0600, &fd) < 0) {
		fprintf(stderr, "<3>pollux-ha: %s\n", why.text);
		return 1;
	}
	end_early();
	take_role();
	while (!ha.ends) {
		struct pollfd p[2 + MAX_CONNECTIONS] = { { .fd = fd, .events = POLLIN },
							 { .fd = signals, .events = POLLIN } };

		for (unsigned int i = 0; i < MAX_CONNECTIONS; i++)
			p[2 + i] = (struct pollfd){ .fd = conn[i] ? ipc_fd(conn[i]) : -1,
						    .events = POLLIN };
		poll(p, ARRAY_SIZE(p), 100);
		pthread_mutex_lock(&ha.lock);
		refused = ha.refusals != told;
		told = ha.refusals;
		pthread_mutex_unlock(&ha.lock);
		if (refused)
			tell_refusal(conn);
		for (unsigned int i = 0; p[0].revents && i < MAX_CONNECTIONS; i++)
			if (!conn[i]) {
				ipc_accept(fd, &conn[i], NULL);
				break;
			}
		if (p[1].revents && fake_take_signal(signals) == SIGUSR1) {
			persist(RECORD_ACTIVE, ha.rec.generation + 1);
			set_word("active", "not protected: took over: no backup");
		}
		for (unsigned int i = 0; i < MAX_CONNECTIONS; i++)
			if (conn[i] && p[2 + i].revents)
				serve_ha(&conn[i]);
	}
	unlink(ha.s.socket);
	return 0;
}

static int run_raw(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char data[65536];
	ssize_t n;

	snprintf(at.sun_path, sizeof(at.sun_path), "%.100s", path);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return 1;
	while ((n = read(STDIN_FILENO, data, sizeof(data))) > 0)
		if (send(fd, data, (size_t)n, MSG_NOSIGNAL) < 0)
			break;
	while (poll(&p, 1, 500) > 0 && (n = read(fd, data, sizeof(data))) > 0)
		for (ssize_t i = 0; i < n; i++)
			putchar(data[i] ? data[i] : '\n');
	puts(p.revents ? "(closed)" : "(open)");
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "domid", required_argument, NULL, 'd' },
		{ "run-dir", required_argument, NULL, 'r' },
		{ "config", required_argument, NULL, 'c' },
		{ "standby", no_argument, NULL, 's' },
		{ "create", no_argument, NULL, 'C' },
		{ "adopt", required_argument, NULL, 'a' },
		{ "settings", required_argument, NULL, 'S' },
		{ "raw", required_argument, NULL, 'R' },
		{ NULL, 0, NULL, 0 },
	};
	const char *dir = NULL, *config = NULL, *settings = NULL, *adopt = NULL;
	bool standby = false;
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (o == 'r')
			dir = optarg;
		if (o == 'c')
			config = optarg;
		if (o == 'S')
			settings = optarg;
		if (o == 'a')
			adopt = optarg;
		if (o == 's')
			standby = true;
		if (o == 'R')
			return run_raw(optarg);
	}
	if (settings)
		return run_ha(settings);
	if (dir && strstr(argv[0], "pollux-xen"))
		return fake_xen(dir, adopt, config, standby);
	return dir && config ? fake_vmm(dir, config) : 2;
}
