/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Views and weights: what a configuration makes of them, and an operator, and another configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

#include "balancer/prober.h"

#define UNIT HEALTH_WEIGHT_UNIT

static const struct handoff_keys keys = { .count = 1 };

struct setup {
	struct balancer_settings *settings;
	struct views views;
};

static struct balancer_settings *load(const char *text)
{
	char path[] = "test-prober-XXXXXX";
	int fd = mkstemp(path);
	struct balancer_settings *settings;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	settings = balancer_settings_load(path, NULL, stderr);
	assert_non_null(settings);
	unlink(path);
	close(fd);
	return settings;
}

static void set_up(struct setup *s, const char *text)
{
	s->settings = load(text);
	assert_int_equal(views_init(&s->views, s->settings), 0);
}

static void tear_down(struct setup *s)
{
	views_clean(&s->views);
	balancer_settings_free(s->settings);
}

static struct prober make(struct setup *s, const char *text)
{
	struct prober p = { .fd = -1, .inject.fd4 = -1 };

	set_up(s, text);
	assert_int_equal(prober_init(&p, s->settings, &keys, &s->views), 0);
	return p;
}

static const char *const one =
	"pools = ("
	"{ name = \"p\"; load_factor = 1.5; backends = ("
	"{ name = \"a\"; address = \"10.0.0.1\"; },"
	"{ name = \"b\"; address = \"10.0.0.2\"; weight = 300; },"
	"{ name = \"c\"; address = \"10.0.0.3\"; state = \"drain\"; } ); },"
	"{ name = \"q\"; backends = ("
	"{ name = \"b\"; address = \"10.0.0.2\"; } ); } );"
	"services = ("
	"{ name = \"s\"; address = \"10.0.1.1\"; index = 1; pool = \"p\"; routes = ("
	"{ path = \"/x\"; pool = \"q\"; }, { path = \"/y\"; pool = \"p\"; } ); },"
	"{ name = \"t\"; address = \"10.0.1.2\"; index = 2; pool = \"q\"; } );";

/* Order, one backend and one service changed; b of p has another address. */
static const char *const two =
	"pools = ("
	"{ name = \"q\"; backends = ("
	"{ name = \"b\"; address = \"10.0.0.2\"; } ); },"
	"{ name = \"p\"; backends = ("
	"{ name = \"d\"; address = \"10.0.0.4\"; },"
	"{ name = \"c\"; address = \"10.0.0.3\"; },"
	"{ name = \"b\"; address = \"10.0.0.9\"; weight = 300; },"
	"{ name = \"a\"; address = \"10.0.0.1\"; weight = 50; } ); } );"
	"services = ("
	"{ name = \"s\"; address = \"10.0.1.1\"; index = 1; pool = \"p\"; } );";

/* All reports, to be looked at by names. */
struct reports {
	struct prober_report report[16];
	size_t count;
};

static void collect(void *context, const struct prober_report *report)
{
	struct reports *r = context;

	assert_true(r->count < 16);
	r->report[r->count++] = *report;
}

static struct prober_report report_of(const struct prober *p, const char *service, const char *pool,
				      const char *backend)
{
	struct reports r = { .count = 0 };

	prober_each(p, collect, &r);
	for (size_t i = 0; i < r.count; i++)
		if (!strcmp(r.report[i].service->name, service) &&
		    !strcmp(r.report[i].pool->name, pool) &&
		    !strcmp(r.report[i].backend->name, backend))
			return r.report[i];
	fail_msg("no report about %s %s %s", service, pool, backend);
	return r.report[0];
}

static void check(const struct prober *p, const char *pool, const char *backend, uint32_t weight,
		  uint32_t effective, uint32_t share, bool drained)
{
	const struct prober_report r = report_of(p, "s", pool, backend);

	assert_int_equal(r.weight, weight);
	assert_int_equal(r.effective, effective * UNIT);
	assert_int_equal(r.share, share);
	assert_int_equal(r.drained, drained);
}

static void test_views(void **state)
{
	struct setup s;
	struct view *view;

	(void)state;
	set_up(&s, one);
	/* A pool that a service names twice is one view of it; each service has its own. */
	assert_int_equal(s.views.count, 3);
	view = views_find(&s.views, 0, 0);
	assert_int_equal(view->usual.factor, 150);
	assert_int_equal(view->weights[0], 100 * UNIT);
	assert_int_equal(view->weights[1], 300 * UNIT);
	assert_int_equal(view->weights[2], 0);
	assert_int_equal(view->spare[2], 0);
	assert_ptr_equal(view->usual.loads, s.views.loads);
	assert_int_equal(view->last_resort.factor, 0);
	assert_ptr_equal(views_find(&s.views, 0, 1)->usual.loads, s.views.loads + 3);
	assert_ptr_not_equal(views_find(&s.views, 0, 1), views_find(&s.views, 1, 1));
	view_doubt(view, 1);
	view_doubt(view, 1);
	assert_int_equal(view->doubts[1], 2);
	load_offered(&s.views.loads[1]);
	load_offered(&s.views.loads[1]);
	load_answered(&s.views.loads[1], 1);
	assert_int_equal(s.views.loads[1].live, 1);
	assert_int_equal(s.views.loads[1].pending, 1);
	tear_down(&s);
}

static void test_operator(void **state)
{
	struct setup s;
	struct prober p = make(&s, one);

	(void)state;
	check(&p, "p", "a", 100, 100, 250, false);
	check(&p, "p", "b", 300, 300, 750, false);
	check(&p, "p", "c", 100, 0, 0, true);
	assert_int_equal(report_of(&p, "s", "p", "a").state, HEALTH_NEW);
	assert_true(report_of(&p, "s", "p", "a").age_ms == UINT64_MAX);

	/* In both pools, and for both services. */
	assert_int_equal(prober_drain(&p, "b"), 2);
	check(&p, "p", "b", 300, 0, 0, true);
	check(&p, "p", "a", 100, 100, 1000, false);
	assert_int_equal(report_of(&p, "t", "q", "b").effective, 0);
	assert_int_equal(views_find(&s.views, 0, 0)->spare[1], 0);
	assert_int_equal(prober_activate(&p, "b"), 2);
	check(&p, "p", "b", 300, 300, 750, false);

	/* What was configured to be drained is not for ever. */
	assert_int_equal(prober_activate(&p, "c"), 1);
	check(&p, "p", "c", 100, 100, 200, false);
	assert_int_equal(prober_weight_set(&p, "c", 1000), 1);
	check(&p, "p", "c", 1000, 1000, 714, false);
	assert_int_equal(prober_weight_set(&p, "c", 0), 1);
	check(&p, "p", "c", 100, 100, 200, false);
	assert_int_equal(prober_drain(&p, "nobody"), 0);
	prober_clean(&p);
	tear_down(&s);
}

static void test_renew(void **state)
{
	struct setup s, t;
	struct prober p = make(&s, one);

	(void)state;
	prober_drain(&p, "a");
	prober_activate(&p, "c");
	prober_weight_set(&p, "b", 7);
	load_offered(&s.views.loads[0]);
	load_answered(&s.views.loads[0], 1);
	set_up(&t, two);
	assert_int_equal(prober_renew(&p, t.settings, &keys, &t.views), 0);
	tear_down(&s);

	/* What an operator has said stays with the name, at another address as well. */
	check(&p, "p", "a", 50, 0, 0, true);
	check(&p, "p", "b", 7, 7, 34, false);
	check(&p, "p", "c", 100, 100, 483, false);
	check(&p, "p", "d", 100, 100, 483, false);
	assert_int_equal(prober_weight_set(&p, "b", 0), 2);
	check(&p, "p", "b", 300, 300, 600, false);
	assert_int_equal(report_of(&p, "s", "p", "a").connections, 1);
	assert_int_equal(prober_activate(&p, "a"), 1);
	check(&p, "p", "a", 50, 50, 91, false);
	prober_clean(&p);
	tear_down(&t);
}

static int setup(void **state)
{
	(void)state;
	return sodium_init() < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_operator),
		cmocka_unit_test(test_renew),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
