/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every unit test includes: cmocka with the headers that it wants first, and a way to
 * say why a test is skipped.
 */
#ifndef POLLUX_TESTS_TEST_H
#define POLLUX_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* tests/run shows the line and counts a skip. */
#define test_skip_all(...)                                                                         \
	do {                                                                                       \
		printf("skipped: " __VA_ARGS__);                                                   \
		printf("\n");                                                                      \
		exit(77);                                                                          \
	} while (0)

/* cmocka's status is the number of failures, which might happen to be 77. */
#define test_main(tests) (cmocka_run_group_tests((tests), NULL, NULL) ? 1 : 0)

#endif
