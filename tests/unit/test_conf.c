/* SPDX-License-Identifier: Apache-2.0 */
/* pollux.conf: defaults, every refusal with its line. */
#include "tools/common/conf.h"

#include "tests/lib/test.h"

#define HOST "[host]\nname = a\n"

static void defaults_and_values(void **state)
{
	struct conf c;
	struct reason why;

	(void)state;
	assert_int_equal(conf_parse(HOST, "f", &c, &why), 0);
	assert_string_equal(c.name, "a");
	assert_true(c.encryption);
	assert_string_equal(c.http, "127.0.0.1:7480");
	assert_string_equal(c.protection.mode, "remus");
	assert_int_equal(c.protection.interval_ns, 100000000);
	assert_int_equal(conf_parse(HOST
				    "listen = 0.0.0.0:7400 ; everywhere\n"
				    "[tls]\nencryption = off\n[http]\nlisten = off\n"
				    "[protection]\ninterval = 25ms\ncodec=zstd\nstage = 128MiB\n"
				    "# a remark\n[peer b]\naddress = 192.0.2.2\n"
				    "[peer c]\naddress = [2001:db8::3]:99\n",
				    "f", &c, &why),
			 0);
	assert_string_equal(c.listen, "0.0.0.0:7400");
	assert_false(c.encryption);
	assert_string_equal(c.http, "");
	assert_int_equal(c.protection.interval_ns, 25000000);
	assert_int_equal(c.protection.stage_bytes, 128 << 20);
	assert_string_equal(conf_find_peer(&c, "b")->address, "192.0.2.2:7400");
	assert_string_equal(conf_find_peer(&c, "c")->address, "[2001:db8::3]:99");
	assert_null(conf_find_peer(&c, "d"));
}

static void write_again(const struct conf *c, char **ret)
{
	size_t len;
	FILE *to = open_memstream(ret, &len);

	assert_non_null(to);
	conf_write(c, to);
	fclose(to);
}

/* What is written is read as the same, and no key is missing. */
static void written_and_read(void **state)
{
	static const char *const texts[] = {
		HOST,
		HOST "listen = [::]:7400\nbacklog = 17MiB\n[tls]\nca = /a\ncert = /b\nkey = /c\n"
		     "encryption = off\n[network]\nbridge = lan0\n[http]\nlisten = off\n"
		     "[paths]\nrun = /r\nstate = /s\nlog = /l\nlibexec = /x\n"
		     "[hooks]\ndirectory = /h\ntimeout = 200ms\n"
		     "[protection]\nmode = kemari\ncodec = none\nnetbuf = plug\ninterval = 2s\n"
		     "min_interval = 1500us\ntimeout = 3s\ndelta_cache = 0\nstage = 1025KiB\n"
		     "max_in_flight = 2\nhold_limit = 1GiB\ncommit = disk\nreprotect = manual\n"
		     "on_peer_loss = stall\noracle = on\ndisk_ring = 1MiB\nresync_cap = 1000001\n"
		     "[peer b]\naddress = 192.0.2.2\n[peer c]\naddress = [2001:db8::3]:99\n",
	};
	struct conf first, second;
	struct reason why;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		char *text, *again;

		assert_int_equal(conf_parse(texts[i], "f", &first, &why), 0);
		write_again(&first, &text);
		if (conf_parse(text, "f", &second, &why))
			fail_msg("%s in:\n%s", why.text, text);
		write_again(&second, &again);
		assert_string_equal(text, again);
		assert_memory_equal(&first.protection, &second.protection,
				    sizeof(first.protection));
		assert_int_equal(first.encryption, second.encryption);
		assert_int_equal(first.backlog_bytes, second.backlog_bytes);
		assert_string_equal(first.libexec_dir, second.libexec_dir);
		assert_string_equal(first.peer[0].address, second.peer[0].address);
		free(text);
		free(again);
	}
}

static void refusals(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "name is missing" },
		{ "x = 1\n", "f:1: \"x\" stands before any [section]" },
		{ HOST "nmae = b\n", "f:3: unknown key \"nmae\" in [host]" },
		{ HOST "name = b\n", "f:3: \"name\" is given twice" },
		{ HOST "[hots]\nx = 1\n", "f:4: unknown key \"x\" in [hots]" },
		{ HOST "what is this\n", "f:3: expected" },
		{ "[host]\nname = a b\n", "f:2: name \"a b\"" },
		{ HOST "[tls]\nca = ca.pem\n", "f:4: ca: \"ca.pem\" is no absolute path" },
		{ HOST "[tls]\nencryption = maybe\n", "expected required or off" },
		{ HOST "listen = 1.2.3.4:7400\n", "[tls] needs ca, cert and key" },
		{ HOST "[http]\nlisten = 0.0.0.0:80\n", "no loopback address" },
		{ HOST "[protection]\nmode = colo\n",
		  "f:4: mode: \"colo\", expected remus or kemari" },
		{ HOST "[protection]\ncodec = gzip\n", "expected lz4, zstd, zlib or none" },
		{ HOST "[protection]\nnetbuf = tap\n", "expected auto, hold or plug" },
		{ HOST "[protection]\ninterval = 100\n", "f:4: interval: \"100\" is no duration" },
		{ HOST "[protection]\ninterval = 1ms\n",
		  "interval: 1ms is not between 5.00 ms and 60.0 s" },
		{ HOST "[protection]\nmin_interval = 200ms\n",
		  "min_interval 200 ms is above interval 100 ms" },
		{ HOST "[protection]\nmax_in_flight = 99\n", "99 is not between 1 and 4" },
		{ HOST "[protection]\ndisk_ring = 3MiB\n", "no power of two" },
		{ HOST "[peer a]\naddress = 1.2.3.4\n", "is this host itself" },
		{ HOST "[peer b]\nadress = 1.2.3.4\n", "f:4: unknown key \"adress\" in [peer b]" },
		{ HOST "[peer b]\naddress = 1.2.3.4:0\n", "a port from 1 to 65535" },
		{ HOST "[peer b]\naddress = 1.2.3.4\naddress = 1.2.3.5\n",
		  "f:5: address is given twice" },
	};
	struct conf c = { .name = "kept" };
	struct reason why;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		why.text[0] = '\0';
		if (conf_parse(cases[i].text, "f", &c, &why) != -EINVAL ||
		    !strstr(why.text, cases[i].says))
			fail_msg("case %zu: \"%s\" instead of \"%s\"", i, why.text, cases[i].says);
	}
	assert_string_equal(c.name, "kept");
}

static void long_lines_are_not_cut(void **state)
{
	char text[600] = HOST "[tls]\nca = /";
	struct conf c;
	struct reason why;

	(void)state;
	memset(text + strlen(text), 'x', 400);
	assert_int_equal(conf_parse(text, "f", &c, &why), -EINVAL);
	assert_non_null(strstr(why.text, "f:4:"));
}

static void options_of_the_command_line(void **state)
{
	struct conf c;
	struct reason why;

	(void)state;
	assert_int_equal(conf_parse(HOST, "f", &c, &why), 0);
	assert_int_equal(conf_protection_set(&c.protection, "interval", "50ms", &why), 0);
	assert_int_equal(c.protection.interval_ns, 50000000);
	assert_int_equal(conf_protection_set(&c.protection, "oracle", "on", &why), 0);
	assert_true(c.protection.oracle);
	assert_int_equal(conf_protection_set(&c.protection, "speed", "1", &why), -ENOENT);
	assert_int_equal(conf_protection_set(&c.protection, "codec", "", &why), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_and_values),
		cmocka_unit_test(written_and_read),
		cmocka_unit_test(refusals),
		cmocka_unit_test(long_lines_are_not_cut),
		cmocka_unit_test(options_of_the_command_line),
	};

	return test_main(tests);
}
