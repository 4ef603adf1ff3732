/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the configuration of l3dsr-balancer; its canonical form is read again to itself. */
#include "conf.h"
#include "balancer/settings.h"

static struct balancer_settings *load(void)
{
	char *text = NULL;
	size_t len = 0;
	FILE *errors = open_memstream(&text, &len);
	struct balancer_settings *settings;

	CHECK(errors);
	settings = balancer_settings_load(MAIN_PATH, NULL, errors);
	fclose(errors);
	conf_check_errors(settings, text, len);
	free(text);
	return settings;
}

static char *print(const struct balancer_settings *settings)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	CHECK(out);
	balancer_settings_print(settings, out);
	fclose(out);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct balancer_settings *settings, *again;
	char *text, *second;

	if (!conf_write(data, size))
		return 0;
	settings = load();
	if (!settings)
		return 0;
	text = print(settings);
	conf_put(MAIN_FD, text, strlen(text));
	again = load();
	CHECK(again);
	second = print(again);
	CHECK(strcmp(text, second) == 0);
	free(second);
	free(text);
	balancer_settings_free(again);
	balancer_settings_free(settings);
	return 0;
}
