/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk-replica/drbd.h against a drbdadm that says what the test wants, and notes what it was
 * asked. The real one is in tests/lab/drbd.sh.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk-replica/command.h"
#include "disk-replica/drbd.h"
#include "tests/lib/dir.h"
#include "tests/lib/test.h"

static struct test_dir at;

static const char script[] = "#!/bin/sh\n"
			     "d=$(dirname \"$0\")\n"
			     "echo \"$*\" >>\"$d/asked\"\n"
			     "[ -r \"$d/$1\" ] && cat \"$d/$1\" && exit 0\n"
			     "echo 'first line'\n"
			     "echo \"r0: $1 is refused\" >&2\n"
			     "exit 11\n";

static void answer(const char *verb, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", at.path, verb);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* What the kernel says of minor 7, among others. */
static void kernel(const char *says)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: F73C\n\n"
		 " 1: cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r-----\n"
		 "    ns:4012 nr:0 dw:0 dr:4012 al:8 bm:0\n 7: %s\n    ns:4012 nr:0\n",
		 says);
	answer("proc", text);
}

static void healthy(const char *roles)
{
	char text[128];

	snprintf(text, sizeof(text), "cs:Connected ro:%s ds:UpToDate/UpToDate C r-----", roles);
	kernel(text);
	answer("sh-minor", "7\n");
	answer("sh-dev", "/dev/drbd7");
}

static int setup(void **state)
{
	static char proc[128];
	char path[128], *own = getenv("PATH"), both[4096];

	(void)state;
	if (test_dir_open(&at))
		return -1;
	answer("drbdadm", script);
	snprintf(proc, sizeof(proc), "%s/proc", at.path);
	drbd_proc = proc;
	snprintf(path, sizeof(path), "%s/drbdadm", at.path);
	if (!own || chmod(path, 0755))
		return -1;
	snprintf(both, sizeof(both), "%s:%s", at.path, own);
	return setenv("PATH", both, 1);
}

static int teardown(void **state)
{
	char *path = getenv("PATH");

	(void)state;
	setenv("PATH", strchr(path, ':') + 1, 1);
	test_dir_close(&at);
	return 0;
}

static void assert_refused(bool primary, const char *text)
{
	int err = strstr(text, "StandAlone") ? -ECONNABORTED : -EINVAL;
	struct reason why = { 0 };

	assert_int_equal(drbd_check("r0", primary, &why), err);
	if (!strstr(why.text, text))
		fail_msg("\"%s\" does not say \"%s\"", why.text, text);
	assert_non_null(strstr(why.text, "r0"));
}

static bool was_asked(const char *what)
{
	char path[128], text[4096] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/asked", at.path);
	f = fopen(path, "r");
	if (f) {
		text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
		fclose(f);
	}
	return strstr(text, what);
}

static void test_names(void **state)
{
	(void)state;
	assert_true(drbd_name_ok("r0"));
	assert_true(drbd_name_ok("db.data_1-x"));
	assert_false(drbd_name_ok(""));
	assert_false(drbd_name_ok("-force"));
	assert_false(drbd_name_ok("r0;reboot"));
	assert_false(drbd_name_ok("a/b"));
	assert_string_equal(drbd_resource("drbd:r0"), "r0");
	assert_null(drbd_resource("/dev/drbd0"));
}

static void test_healthy(void **state)
{
	char device[32];

	(void)state;
	healthy("Primary/Secondary");
	assert_int_equal(drbd_check("r0", true, NULL), 0);
	assert_refused(false, "Primary; it must be Secondary");
	assert_int_equal(drbd_device("r0", device, sizeof(device), NULL), 0);
	assert_string_equal(device, "/dev/drbd7");
	assert_int_equal(drbd_check("-x", true, NULL), -EINVAL);
}

static void test_refused_by_name(void **state)
{
	(void)state;
	healthy("Primary/Secondary");
	kernel("cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate A r-----");
	assert_refused(true, "protocol A; it must be C");
	kernel("cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----");
	assert_refused(true, "StandAlone: a split brain");
	kernel("cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----");
	assert_refused(true, "WFConnection; it must be Connected");
	kernel("cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate C r-----");
	assert_refused(true, "disks Diskless/UpToDate");
	kernel("cs:Connected ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----");
	assert_refused(true, "disks UpToDate/Inconsistent");
	kernel("cs:Unconfigured");
	assert_refused(true, "Unconfigured");
}

static void test_nonsense(void **state)
{
	struct drbd_status s;
	struct reason why = { 0 };

	(void)state;
	healthy("Primary/Secondary");
	kernel("cs:Connected ro:Primary");
	assert_int_equal(drbd_status("r0", &s, &why), -ENOENT);
	healthy("Primary/Secondary");
	answer("sh-minor", "none\n");
	assert_int_equal(drbd_status("r0", &s, &why), -EPROTO);
	healthy("Primary/Secondary");
	answer("sh-dev", "/etc/passwd\n");
	assert_int_equal(drbd_device("r0", why.text, sizeof(why.text), NULL), -EPROTO);
}

/* As polluxd does. */
static void test_failure_with_sigchld_ignored(void **state)
{
	struct reason why = { 0 };

	(void)state;
	signal(SIGCHLD, SIG_IGN);
	healthy("Primary/Secondary");
	assert_int_equal(drbd_demote("r0", &why), -EREMOTEIO);
	assert_string_equal(why.text, "drbdadm secondary: r0: secondary is refused");
	healthy("Primary/Secondary");
	assert_int_equal(drbd_check("r0", true, NULL), 0);
	signal(SIGCHLD, SIG_DFL);
	assert_int_equal(drbd_demote("r0", &why), -EREMOTEIO);
}

static void test_begin(void **state)
{
	(void)state;
	healthy("Secondary/Primary");
	assert_int_equal(drbd_begin("r0", NULL), -EBUSY);
	kernel("cs:SyncTarget ro:Secondary/Secondary ds:Inconsistent/UpToDate C r-----");
	assert_int_equal(drbd_begin("r0", NULL), -EIO);
	assert_false(was_asked("primary r0"));
	healthy("Secondary/Secondary");
	answer("primary", "");
	assert_int_equal(drbd_begin("r0", NULL), 0);
	assert_true(was_asked("primary r0"));
	assert_false(was_asked("force"));
}

static void test_promote_cuts_first(void **state)
{
	(void)state;
	healthy("Secondary/Unknown");
	answer("primary", "");
	answer("disconnect", "");
	assert_int_equal(drbd_promote("r0", 7, NULL), 0);
	assert_false(was_asked("disconnect"));
	healthy("Secondary/Primary");
	assert_int_equal(drbd_promote("r0", 7, NULL), 0);
	assert_true(was_asked("disconnect --force r0\nprimary r0"));
	/* Never by force against its disk's state, and nothing is discarded. */
	assert_false(was_asked("primary --force"));
	assert_false(was_asked("discard"));
}

static void test_whole(void **state)
{
	struct reason why;

	(void)state;
	healthy("Primary/Secondary");
	assert_int_equal(drbd_whole(drbd_proc, 7, &why), 0);
	assert_int_equal(drbd_whole(drbd_proc, 1, &why), -EINVAL);
	assert_int_equal(drbd_whole(drbd_proc, 5, &why), -ENOENT);
	kernel("cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----");
	assert_int_equal(drbd_whole(drbd_proc, 7, &why), -EINVAL);
	assert_non_null(strstr(why.text, "SyncSource"));
	kernel("cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----");
	assert_int_equal(drbd_whole(drbd_proc, 7, &why), -EINVAL);
	kernel("cs:VerifyS ro:Primary/Secondary ds:UpToDate/UpToDate C r-----");
	assert_int_equal(drbd_whole(drbd_proc, 7, &why), 0);
	kernel("cs:SyncTarget ro:Primary/Secondary ds:Inconsistent/UpToDate C r-----");
	assert_int_equal(drbd_whole(drbd_proc, 7, &why), 0);
	kernel("cs:VerifyS ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----");
	assert_int_equal(drbd_whole(drbd_proc, 7, &why), -EINVAL);
	kernel("cs:Unconfigured");
	assert_int_equal(drbd_whole(drbd_proc, 7, &why), -EINVAL);
	assert_int_equal(drbd_whole("/nonexistent", 7, &why), -ENOENT);
}

static void test_has_own(void **state)
{
	struct reason why;

	(void)state;
	healthy("Primary/Secondary");
	assert_int_equal(drbd_has_own(drbd_proc, 7, &why), 0);
	assert_int_equal(drbd_has_own(drbd_proc, 5, &why), -ENOENT);
	kernel("cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----");
	assert_int_equal(drbd_has_own(drbd_proc, 7, &why), 0);
	kernel("cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate C r-----");
	assert_int_equal(drbd_has_own(drbd_proc, 7, &why), -EINVAL);
	assert_non_null(strstr(why.text, "Diskless"));
	assert_int_equal(drbd_whole(drbd_proc, 7, &why), 0);
}

static void test_deadline(void **state)
{
	const char *const argv[] = { "sh", "-c", "sleep 1000", NULL };
	char out[64];

	(void)state;
	assert_int_equal(command_run(argv, UINT64_C(300000000), out, sizeof(out), NULL),
			 -ETIMEDOUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test_setup_teardown(test_healthy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure_with_sigchld_ignored, setup, teardown),
		cmocka_unit_test_setup_teardown(test_begin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_promote_cuts_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_has_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
	};

	return test_main(tests);
}
