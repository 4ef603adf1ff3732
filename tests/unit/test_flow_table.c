/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slots, index and expiry: limits, middles of lists, exact times, and a simple model beside them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/flow_table.h"

static struct tuple tuple_of(uint32_t n)
{
	uint8_t src[4] = { 10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
	static const uint8_t dst[4] = { 192, 168, 33, 10 };

	return (struct tuple){ addr_from_bytes(4, src), addr_from_bytes(4, dst), 40000, 80 };
}

static void test_slots(void **state)
{
	struct slots s;
	uint32_t i;

	(void)state;
	assert_int_equal(slots_init(&s, 5), 0);
	for (i = 0; i < 5; i++)
		assert_int_equal(slots_take(&s), i);
	assert_int_equal(slots_take(&s), SLOT_NONE);
	assert_int_equal(s.used, 5);
	slots_put(&s, 1);
	slots_put(&s, 4);
	slots_put(&s, 2);
	assert_int_equal(slots_take(&s), 2);
	assert_int_equal(slots_take(&s), 4);
	assert_int_equal(slots_take(&s), 1);
	assert_int_equal(slots_take(&s), SLOT_NONE);
	slots_clean(&s);
}

/* A returned slot is preferred to one that was never used. */
static void test_slots_last_in_first_out(void **state)
{
	struct slots s;

	(void)state;
	assert_int_equal(slots_init(&s, 1000), 0);
	assert_int_equal(slots_take(&s), 0);
	assert_int_equal(slots_take(&s), 1);
	slots_put(&s, 0);
	assert_int_equal(slots_take(&s), 0);
	assert_int_equal(slots_take(&s), 2);
	slots_clean(&s);
}

static void test_slots_random(void **state)
{
	enum { CAPACITY = 64 };
	bool taken[CAPACITY] = { false };
	uint32_t used = 0, slot;
	struct slots s;
	int i;

	(void)state;
	assert_int_equal(slots_init(&s, CAPACITY), 0);
	for (i = 0; i < 100000; i++) {
		if (rand() % 100 < (i / 1000 % 2 ? 60 : 40)) {
			slot = slots_take(&s);
			if (used == CAPACITY) {
				assert_int_equal(slot, SLOT_NONE);
				continue;
			}
			assert_in_range(slot, 0, CAPACITY - 1);
			assert_false(taken[slot]);
			taken[slot] = true;
			used++;
		} else {
			slot = (uint32_t)rand() % CAPACITY;
			if (!taken[slot])
				continue;
			slots_put(&s, slot);
			taken[slot] = false;
			used--;
		}
		assert_int_equal(s.used, used);
	}
	slots_clean(&s);
}

static void test_index_full(void **state)
{
	enum { CAPACITY = 10000 };
	struct index ix;
	struct tuple t;
	uint32_t i;

	(void)state;
	assert_int_equal(index_init(&ix, CAPACITY), 0);
	for (i = 0; i < CAPACITY; i++) {
		t = tuple_of(i);
		assert_int_equal(index_find(&ix, &t), SLOT_NONE);
		index_insert(&ix, i, &t);
	}
	assert_int_equal(ix.count, CAPACITY);
	for (i = 0; i < CAPACITY; i++) {
		t = tuple_of(i);
		assert_int_equal(index_find(&ix, &t), i);
		t = tuple_reverse(&t);
		assert_int_equal(index_find(&ix, &t), SLOT_NONE);
	}
	for (i = 0; i < CAPACITY; i += 3)
		index_remove(&ix, i);
	for (i = 0; i < CAPACITY; i++) {
		t = tuple_of(i);
		assert_int_equal(index_find(&ix, &t), i % 3 ? i : SLOT_NONE);
	}
	index_clean(&ix);
}

/* One bucket only, so that all slots are one chain: head, middle and end of it are removed. */
static void test_index_chain(void **state)
{
	static const uint32_t order[] = { 2, 4, 0, 3, 1 };
	struct index ix;
	struct tuple t;
	uint32_t i, n;

	(void)state;
	assert_int_equal(index_init(&ix, 5), 0);
	ix.mask = 0;
	for (i = 0; i < 5; i++) {
		t = tuple_of(i);
		index_insert(&ix, i, &t);
	}
	for (n = 0; n < 5; n++) {
		index_remove(&ix, order[n]);
		for (i = 0; i < 5; i++) {
			bool gone = false;
			uint32_t k;

			for (k = 0; k <= n; k++)
				gone |= order[k] == i;
			t = tuple_of(i);
			assert_int_equal(index_find(&ix, &t), gone ? SLOT_NONE : i);
		}
	}
	assert_int_equal(ix.count, 0);
	index_clean(&ix);
}

static void test_index_random(void **state)
{
	enum { CAPACITY = 128, KEYS = 200 };
	uint32_t slot_of[KEYS], slot, key;
	struct slots slots;
	struct index ix;
	struct tuple t;
	int i;

	(void)state;
	for (key = 0; key < KEYS; key++)
		slot_of[key] = SLOT_NONE;
	assert_int_equal(slots_init(&slots, CAPACITY), 0);
	assert_int_equal(index_init(&ix, CAPACITY), 0);
	for (i = 0; i < 200000; i++) {
		key = (uint32_t)rand() % KEYS;
		t = tuple_of(key);
		assert_int_equal(index_find(&ix, &t), slot_of[key]);
		if (slot_of[key] != SLOT_NONE) {
			index_remove(&ix, slot_of[key]);
			slots_put(&slots, slot_of[key]);
			slot_of[key] = SLOT_NONE;
		} else if ((slot = slots_take(&slots)) != SLOT_NONE) {
			index_insert(&ix, slot, &t);
			slot_of[key] = slot;
		} else {
			assert_int_equal(ix.count, CAPACITY);
		}
		assert_int_equal(ix.count, slots.used);
	}
	index_clean(&ix);
	slots_clean(&slots);
}

/* Two tables of one process must not be attackable with the same collisions. */
static void test_index_secret(void **state)
{
	struct index a, b;

	(void)state;
	assert_int_equal(index_init(&a, 1), 0);
	assert_int_equal(index_init(&b, 1), 0);
	assert_memory_not_equal(a.secret, b.secret, sizeof(a.secret));
	index_clean(&a);
	index_clean(&b);
}

static const uint64_t lifetimes[] = { 1000, 50 };

static void test_expiry_order(void **state)
{
	struct expiry e;
	uint32_t i;

	(void)state;
	assert_int_equal(expiry_init(&e, 10, lifetimes, 2), 0);
	assert_int_equal(expiry_oldest(&e, 0), SLOT_NONE);
	assert_int_equal(expiry_next(&e, 0, UINT64_MAX), SLOT_NONE);
	for (i = 0; i < 10; i++) {
		assert_int_equal(expiry_class(&e, 9 - i), EXPIRY_NONE);
		expiry_set(&e, 9 - i, 0, 10 * i);
		assert_int_equal(expiry_class(&e, 9 - i), 0);
	}
	assert_int_equal(expiry_oldest(&e, 0), 9);
	assert_int_equal(expiry_next(&e, 0, 999), SLOT_NONE);
	for (i = 0; i < 10; i++) {
		assert_int_equal(expiry_next(&e, 0, 999 + 10 * i), SLOT_NONE);
		assert_int_equal(expiry_next(&e, 0, 1000 + 10 * i), 9 - i);
		assert_int_equal(expiry_class(&e, 9 - i), EXPIRY_NONE);
	}
	assert_int_equal(e.class[0].count, 0);
	expiry_clean(&e);
}

static void test_expiry_touch(void **state)
{
	struct expiry e;
	uint32_t i;

	(void)state;
	assert_int_equal(expiry_init(&e, 10, lifetimes, 2), 0);
	for (i = 0; i < 10; i++)
		expiry_set(&e, i, 0, 0);
	for (i = 1; i < 10; i += 2)
		expiry_touch(&e, i, 400 + i);
	/* Exactly those that were not touched go at 1000 … */
	for (i = 0; i < 10; i += 2)
		assert_int_equal(expiry_next(&e, 0, 1000), i);
	assert_int_equal(expiry_next(&e, 0, 1000), SLOT_NONE);
	assert_int_equal(e.class[0].count, 5);
	/* … and the others a lifetime after they were. */
	for (i = 1; i < 10; i += 2) {
		assert_int_equal(expiry_next(&e, 0, 1399 + i), SLOT_NONE);
		assert_int_equal(expiry_next(&e, 0, 1400 + i), i);
	}
	assert_int_equal(e.class[0].count, 0);
	expiry_clean(&e);
}

/* Longer or shorter, for those that are there as for those that come. */
static void test_expiry_lifetime(void **state)
{
	struct expiry e;

	(void)state;
	assert_int_equal(expiry_init(&e, 3, lifetimes, 2), 0);
	expiry_set(&e, 0, 0, 100);
	expiry_set(&e, 1, 0, 200);
	expiry_lifetime(&e, 0, 300);
	expiry_set(&e, 2, 0, 300);
	assert_int_equal(expiry_next(&e, 0, 399), SLOT_NONE);
	assert_int_equal(expiry_next(&e, 0, 400), 0);
	assert_int_equal(expiry_next(&e, 0, 499), SLOT_NONE);
	assert_int_equal(expiry_next(&e, 0, 500), 1);
	expiry_lifetime(&e, 0, 5000);
	assert_int_equal(expiry_next(&e, 0, 5299), SLOT_NONE);
	expiry_touch(&e, 2, 5200);
	expiry_lifetime(&e, 0, 10);
	assert_int_equal(expiry_next(&e, 0, 5209), SLOT_NONE);
	assert_int_equal(expiry_next(&e, 0, 5210), 2);
	assert_int_equal(e.class[0].count, 0);
	expiry_clean(&e);
}

static void test_expiry_change_class(void **state)
{
	struct expiry e;
	uint32_t i;

	(void)state;
	assert_int_equal(expiry_init(&e, 5, lifetimes, 2), 0);
	for (i = 0; i < 5; i++)
		expiry_set(&e, i, 0, 0);
	expiry_set(&e, 2, 1, 100);
	assert_int_equal(expiry_class(&e, 2), 1);
	assert_int_equal(e.class[0].count, 4);
	assert_int_equal(e.class[1].count, 1);
	assert_int_equal(expiry_next(&e, 1, 149), SLOT_NONE);
	assert_int_equal(expiry_next(&e, 1, 150), 2);
	assert_int_equal(expiry_next(&e, 1, 150), SLOT_NONE);
	/* Set again in the same class: at the end of it. */
	expiry_set(&e, 0, 0, 500);
	assert_int_equal(expiry_oldest(&e, 0), 1);
	assert_int_equal(e.class[0].count, 4);
	/* Head, middle and end are taken out, and one that is in no list. */
	expiry_remove(&e, 1);
	expiry_remove(&e, 4);
	expiry_remove(&e, 0);
	expiry_remove(&e, 2);
	assert_int_equal(e.class[0].count, 1);
	assert_int_equal(expiry_next(&e, 0, 1000), 3);
	assert_int_equal(expiry_oldest(&e, 0), SLOT_NONE);
	expiry_clean(&e);
}

/* What the table promises of each flow, whatever happens to the others. */
struct model {
	unsigned int class;
	bool touched;
	uint64_t begin, last;
};

static void model_expire(struct expiry *e, struct model *m, size_t n, unsigned int class,
			 uint64_t now)
{
	uint64_t lifetime = lifetimes[class];
	uint32_t slot;
	size_t i;

	while ((slot = expiry_next(e, class, now)) != SLOT_NONE) {
		assert_int_equal(m[slot].class, class);
		assert_true(m[slot].last + lifetime <= now); /* never early */
		m[slot].class = EXPIRY_NONE;
	}
	for (i = 0; i < n; i++) {
		if (m[i].class != class)
			continue;
		if (!m[i].touched)
			assert_true(m[i].begin + lifetime > now); /* on time */
		assert_true(m[i].last + 2 * lifetime > now);
	}
}

static void test_expiry_random(void **state)
{
	enum { SLOTS = 100 };
	struct model m[SLOTS];
	uint64_t now = 0;
	struct expiry e;
	uint32_t i, slot, count;
	int round;

	(void)state;
	for (i = 0; i < SLOTS; i++)
		m[i].class = EXPIRY_NONE;
	assert_int_equal(expiry_init(&e, SLOTS, lifetimes, 2), 0);
	for (round = 0; round < 300000; round++) {
		slot = (uint32_t)rand() % SLOTS;
		now += (uint64_t)rand() % 5;
		switch (rand() % 8) {
		case 0:
		case 1:
			m[slot] = (struct model){ rand() % 4 == 0, false, now, now };
			expiry_set(&e, slot, m[slot].class, now);
			break;
		case 2:
			if (rand() % 4)
				break;
			expiry_remove(&e, slot);
			m[slot].class = EXPIRY_NONE;
			break;
		case 3:
			model_expire(&e, m, SLOTS, 0, now);
			model_expire(&e, m, SLOTS, 1, now);
			break;
		default:
			if (m[slot].class == EXPIRY_NONE)
				break;
			expiry_touch(&e, slot, now);
			m[slot].last = now;
			m[slot].touched = true;
		}
		assert_int_equal(expiry_class(&e, slot), m[slot].class);
	}
	for (i = 0, count = 0; i < SLOTS; i++)
		count += m[i].class != EXPIRY_NONE;
	assert_int_equal(e.class[0].count + e.class[1].count, count);
	/* Without a further sign of life all are gone after one lifetime. */
	model_expire(&e, m, SLOTS, 0, now + lifetimes[0]);
	model_expire(&e, m, SLOTS, 1, now + lifetimes[1]);
	assert_int_equal(e.class[0].count + e.class[1].count, 0);
	expiry_clean(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_slots_last_in_first_out),
		cmocka_unit_test(test_slots_random),
		cmocka_unit_test(test_index_full),
		cmocka_unit_test(test_index_chain),
		cmocka_unit_test(test_index_random),
		cmocka_unit_test(test_index_secret),
		cmocka_unit_test(test_expiry_order),
		cmocka_unit_test(test_expiry_touch),
		cmocka_unit_test(test_expiry_lifetime),
		cmocka_unit_test(test_expiry_change_class),
		cmocka_unit_test(test_expiry_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
