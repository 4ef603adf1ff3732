/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a URL would go, by the very functions that packets are chosen a backend by (choice.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "choice.h"
#include "lib/words.h"
#include "show.h"

#define CHOICES	   4 /* the backend, and the next three */
#define HOST_MAX   256
#define ALPN_MAX   256
#define ALPN_USUAL "h2,http/1.1"

/**
 * struct question - a URL in its parts, and what else was said
 * @host: without the port, @authority: with it
 * @port: 0: that of the scheme
 */
struct question {
	const char *service, *alpn;
	struct addr client;
	bool tls;
	char host[HOST_MAX], authority[HOST_MAX + 8];
	unsigned int port;
	const char *target; /* path and query; "" is "/" */
	size_t target_len;
};

/* What a request is made of, for the recogniser. */
struct scratch {
	uint8_t bytes[WORDS_LINE + HOST_MAX + 64];
	uint8_t url[URL_ROOM(WORDS_LINE + HOST_MAX + 64)];
	uint8_t alpn[ALPN_MAX + 1];
	struct request request;
};

static bool parse_port(const char *text, size_t len, unsigned int *port)
{
	*port = 0;
	for (size_t i = 0; i < len && *port <= UINT16_MAX; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		*port = *port * 10 + (unsigned int)(text[i] - '0');
	}
	return len && *port && *port <= UINT16_MAX;
}

/* Returns what is wrong with it, as half a sentence, or NULL. */
static const char *parse_url(struct question *q, const char *url)
{
	const char *colon;
	size_t len;

	if (!strncasecmp(url, "https://", 8))
		q->tls = true;
	else if (strncasecmp(url, "http://", 7) != 0)
		return "does not begin with http:// or https://";
	url += q->tls ? 8 : 7;
	len = strcspn(url, "/?#");
	if (!len || len >= sizeof(q->host) || memchr(url, '@', len))
		return "has no host, or one that is no name";
	snprintf(q->authority, sizeof(q->authority), "%.*s", (int)len, url);
	colon = *url == '[' ? memchr(url, ']', len) : url;
	if (colon)
		colon = memchr(colon, ':', len - (size_t)(colon - url));
	if (colon && !parse_port(colon + 1, len - (size_t)(colon + 1 - url), &q->port))
		return "has no port behind its colon";
	snprintf(q->host, sizeof(q->host), "%.*s", (int)(colon ? (size_t)(colon - url) : len), url);
	q->target = url + len;
	q->target_len = strcspn(q->target, "#");
	return NULL;
}

static const char *parse_option(struct question *q, const char *argument)
{
	const char *value;

	if ((value = show_option(argument, "service"))) {
		q->service = value;
	} else if ((value = show_option(argument, "client"))) {
		if (addr_parse(&q->client, value))
			return "is no address";
	} else if ((value = show_option(argument, "alpn"))) {
		if (strlen(value) >= ALPN_MAX)
			return "is too long";
		q->alpn = value;
	} else {
		return "is none of service=NAME, client=ADDRESS, alpn=NAME,NAME";
	}
	return NULL;
}

static bool is_asked(const struct question *q, const struct service_settings *service)
{
	unsigned int port = q->port ? q->port : q->tls ? 443 : 80;
	struct addr address;

	if (q->service)
		return !strcmp(q->service, service->name);
	if ((unsigned int)service->port != port)
		return false;
	return addr_parse(&address, q->host) || addr_equal(&address, &service->address);
}

/* The one that the URL is for, or NULL after it was said that there is none, or more than one. */
static const struct service_settings *find_service(const struct question *q,
						   const struct generation *g,
						   struct control_client *client)
{
	const struct service_settings *found = NULL;

	for (size_t i = 0; i < g->settings->service_count; i++) {
		const struct service_settings *service = &g->settings->services[i];

		if (!is_asked(q, service))
			continue;
		if (found) {
			control_error(client,
				      "several services have that port, as %s and %s: say "
				      "service=NAME",
				      found->name, service->name);
			return NULL;
		}
		found = service;
	}
	if (!found)
		control_error(client, "no service has that %s",
			      q->service ? "name" : "address and port");
	return found;
}

/* "h2,http/1.1" as a client hello has it. */
static struct slice write_alpn(const char *names, uint8_t *buf)
{
	size_t used = 0;

	while (*names) {
		size_t len = strcspn(names, ",");

		buf[used++] = (uint8_t)len;
		memcpy(buf + used, names, len);
		used += len;
		names += len + (names[len] == ',');
	}
	return (struct slice){ buf, used };
}

/* What the recogniser of @service makes of a client that asks for the URL. */
static enum recognised recognise(const struct question *q, const struct service_settings *service,
				 struct scratch *s)
{
	struct addr literal;
	int len;

	if (service->protocol == PROTOCOL_TLS) {
		/* A client hello as it is recognised. An address is no server name (RFC 6066, 3). */
		memset(&s->request, 0, sizeof(s->request));
		if (addr_parse(&literal, q->host))
			s->request.host =
				(struct slice){ (const uint8_t *)q->host, strlen(q->host) };
		s->request.alpn = write_alpn(q->alpn ? q->alpn : ALPN_USUAL, s->alpn);
		return RECOGNISED_REQUEST;
	}
	len = snprintf((char *)s->bytes, sizeof(s->bytes),
		       "GET %s%.*s HTTP/1.1\r\nHost: %s\r\n\r\n", *q->target == '/' ? "" : "/",
		       (int)q->target_len, q->target, q->authority);
	return choice_recognise(service, s->bytes, (size_t)len, &s->request);
}

static void put_key(struct control_client *client, const struct question *q,
		    const struct slice *key)
{
	char text[ADDR_STRLEN];

	if (!key->bytes || key->bytes == q->client.bytes)
		control_text(client, addr_format(&q->client, text));
	else
		control_bytes(client, key->bytes, key->len);
}

static void put_route(struct control_client *client, const struct route_settings *route)
{
	char text[sizeof(route->match) + 16];

	if (!route) {
		control_text(client, "");
		return;
	}
	snprintf(text, sizeof(text), "%s%s%s%s", route->match.host, route->match.path,
		 route->match.alpn[0] ? " alpn " : "", route->match.alpn);
	control_text(client, text[0] ? text : "*");
}

static void put_choices(struct control_client *client, const struct question *q,
			const struct generation *g, const struct service_settings *service,
			const struct choice *choice, const struct slice *key)
{
	uint64_t tried[CHOICE_TRIED_WORDS] = { 0 };
	const char *pool = g->settings->pools[choice->pool].name;
	enum choice_how how;
	const struct backend_settings *backend = choice_backend(g, service, choice, tried, &how);
	char text[ADDR_STRLEN];

	if (!backend) {
		control_error(client,
			      "all backends of pool %s are drained: the connection is reset", pool);
		return;
	}
	control_columns(client, "n:choice s:backend s:bridge s:service s:route s:pool s:key");
	for (unsigned int i = 1; backend && i <= CHOICES; i++) {
		control_number(client, i);
		control_text(client, backend->name);
		control_text(client, addr_format(&backend->address, text));
		control_text(client, service->name);
		put_route(client, choice->route);
		control_text(client, pool);
		put_key(client, q, key);
		control_end_row(client);
		backend = choice_backend(g, service, choice, tried, &how);
	}
}

static void answer(const struct generation *g, struct control_client *client,
		   const struct question *q, struct scratch *scratch)
{
	const struct service_settings *service = find_service(q, g, client);
	enum choice_result result = CHOICE_NAMELESS;
	struct slice key = { NULL, 0 };
	struct choice choice;

	if (!service)
		return;
	choice = (struct choice){ .pool = service->pool_number };
	if (recognise(q, service, scratch) == RECOGNISED_REQUEST)
		result = choice_make(service, &scratch->request, &q->client, scratch->url, &choice,
				     &key);
	if (result == CHOICE_NAMELESS && !q->client.family) {
		control_error(client, "its backend is chosen by the client: say client=ADDRESS");
		return;
	}
	if (result == CHOICE_NAMELESS) {
		key = (struct slice){ NULL, 0 };
		result = choice_fall_back(service, &q->client, &choice);
	}
	if (result == CHOICE_NO_ROUTE)
		control_error(client,
			      "no route of service %s wants it, and there is no pool for "
			      "the rest: reset",
			      service->name);
	else if (result == CHOICE_NONE)
		control_error(client,
			      "it does not say what is its key, and the fallback of "
			      "service %s is a reset",
			      service->name);
	else
		put_choices(client, q, g, service, &choice, &key);
}

void show_lookup(void *context, struct control_client *client, char **arguments, size_t count)
{
	const struct show *show = context;
	struct question q = { .service = NULL };
	const char *wrong = NULL;
	struct scratch *scratch;

	if (!count) {
		control_error(client, "lookup: a URL is expected");
		return;
	}
	for (size_t i = 0; i < count && !wrong; i++) {
		wrong = i ? parse_option(&q, arguments[i]) : parse_url(&q, arguments[i]);
		if (wrong)
			control_error(client, "lookup: \"%.200s\" %s", arguments[i], wrong);
	}
	if (wrong)
		return;
	scratch = malloc(sizeof(*scratch));
	if (!scratch) {
		control_error(client, "not enough memory");
		return;
	}
	answer(*show->generation, client, &q, scratch);
	free(scratch);
}
