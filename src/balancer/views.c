/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory for views: one for each pool of each service. */
#include "views.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/health.h"

#define VIEW_NONE UINT32_MAX

/* Give the pair a view, if it has none; returns the words that it needs. */
static size_t number(struct views *v, const struct balancer_settings *settings, size_t service,
		     size_t pool)
{
	uint32_t *slot;

	if (pool == NO_POOL)
		return 0;
	slot = &v->numbers[service * v->pool_count + pool];
	if (*slot != VIEW_NONE)
		return 0;
	*slot = (uint32_t)v->count++;
	return 3 * settings->pools[pool].backend_count;
}

static size_t number_all(struct views *v, const struct balancer_settings *settings)
{
	size_t words = 0;

	for (size_t i = 0; i < settings->service_count; i++) {
		const struct service_settings *service = &settings->services[i];

		words += number(v, settings, i, service->pool_number);
		for (size_t j = 0; j < service->route_count; j++)
			words += number(v, settings, i, service->routes[j].pool_number);
	}
	return words;
}

/* As if all were up: what the main thread knows it says before the workers start. */
static uint32_t *fill(struct view *view, const struct views *v, const struct pool_settings *pool,
		      uint32_t *words)
{
	size_t count = pool->backend_count;

	view->weights = words;
	view->spare = words + count;
	view->doubts = words + 2 * count;
	for (size_t i = 0; i < count; i++) {
		uint32_t weight = (uint32_t)pool->backends[i].weight * HEALTH_WEIGHT_UNIT;

		if (pool->backends[i].state == BACKEND_ACTIVE)
			view->weights[i] = view->spare[i] = weight;
	}
	view->usual = (struct pool_view){
		.weights = view->weights,
		.loads = &v->loads[pool->backends[0].number],
		.factor = (uint32_t)pool->load_factor,
	};
	view->last_resort = (struct pool_view){ .weights = view->spare };
	return words + 3 * count;
}

int views_init(struct views *v, const struct balancer_settings *settings)
{
	size_t pairs = settings->service_count * settings->pool_count, words;
	uint32_t *next;

	*v = (struct views){ .pool_count = settings->pool_count };
	v->numbers = malloc(pairs * sizeof(*v->numbers));
	v->loads = calloc(settings->backend_count, sizeof(*v->loads));
	if (!v->numbers || !v->loads)
		return -ENOMEM;
	for (size_t i = 0; i < pairs; i++)
		v->numbers[i] = VIEW_NONE;
	words = number_all(v, settings);
	v->views = calloc(v->count, sizeof(*v->views));
	v->words = next = calloc(words, sizeof(*v->words));
	if (!v->views || !v->words)
		return -ENOMEM;
	for (size_t i = 0; i < pairs; i++) {
		struct view *view;

		if (v->numbers[i] == VIEW_NONE)
			continue;
		view = &v->views[v->numbers[i]];
		view->service = i / v->pool_count;
		view->pool = i % v->pool_count;
		next = fill(view, v, &settings->pools[view->pool], next);
	}
	return 0;
}

void views_clean(struct views *v)
{
	free(v->numbers);
	free(v->loads);
	free(v->views);
	free(v->words);
}

struct view *views_find(const struct views *v, size_t service, size_t pool)
{
	return &v->views[v->numbers[service * v->pool_count + pool]];
}
