/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The configuration of l3dsr-balancer: what l3dsr-balancer.conf(5) describes, checked. */
#ifndef L3DSR_BALANCER_SETTINGS_H
#define L3DSR_BALANCER_SETTINGS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/addr.h"
#include "lib/route.h"
#include "lib/url.h"

#define NAME_LEN_MAX 63
#define INDEX_MAX    63
#define BACKENDS_MAX 1024 /* of a pool */
#define STATUS_PORT  4	  /* behind answer_port, and the ports of up to four threads */

enum handshake_source { HANDSHAKE_SNOOP, HANDSHAKE_SOCKET };
enum data_plane { DATA_PLANE_KERNEL, DATA_PLANE_USERSPACE };
enum service_fallback { FALLBACK_SOURCE, FALLBACK_RESET };
enum backend_state { BACKEND_ACTIVE, BACKEND_DRAIN };
enum probes { PROBES_ON, PROBES_OFF };
enum service_protocol { PROTOCOL_HTTP, PROTOCOL_TLS, PROTOCOL_TCP };
enum service_speaks { SPEAKS_CLIENT, SPEAKS_SERVER };

struct backend_settings {
	char name[NAME_LEN_MAX + 1]; /* letters, digits, '-', '_', '.'; unique in its pool */
	struct addr address;	     /* the bridge; IPv4 */
	size_t number;		     /* counts the backends of all pools, resolved by the check */
	int weight;		     /* 1..1000, default 100 */
	int state;		     /* enum backend_state: "active" (default) or "drain" */
};

struct pool_settings {
	char name[NAME_LEN_MAX + 1];	   /* unique */
	struct backend_settings *backends; /* 1..BACKENDS_MAX */
	size_t backend_count;
	int load_factor; /* hundredths, 1.00..10.00; 0 (default): not bounded */
};

struct route_settings {
	struct route match;
	struct key_policy key; /* that of the service, if the route has none */
	char pool[NAME_LEN_MAX + 1];
	size_t pool_number; /* into pools[], resolved by the check */
};

#define NO_POOL SIZE_MAX

struct service_settings {
	char name[NAME_LEN_MAX + 1]; /* unique */
	struct addr address;	     /* the VIP; IPv4 */
	int port;		     /* 1..65535, default 80; (address, port) unique */
	int index;    /* 1..63; one per address: equal addresses, equal index, and back */
	int protocol; /* enum service_protocol: "http" (default), "tls" or "tcp" */
	int speaks;   /* first; enum service_speaks: "client" (default), or "server" with "tcp" */
	struct key_policy key;
	int fallback; /* enum service_fallback: "source" (default) or "reset" */
	char pool[NAME_LEN_MAX +
		  1];	    /* for what no route wants; may be missing if there are routes */
	size_t pool_number; /* into pools[] or NO_POOL, resolved by the check */
	struct route_settings *routes; /* the first that matches counts */
	size_t route_count;
	unsigned int
		wanted; /* enum request_part: what keys and routes need, resolved by the check */
};

struct balancer_settings {
	int threads;	    /* 1..4, default 1 */
	int log_level;	    /* enum log_level: "error", "warning", "info" (default), "debug" */
	char key_file[256]; /* default "/etc/l3dsr/handoff.key" */
	char control[108];  /* default "/run/l3dsr/balancer.sock" */
	struct addr answer_address; /* where bridges answer; default 192.168.33.10 */
	int answer_port;	/* 1..65531, default 6303; thread i listens on answer_port + i, and
				    * the main thread on answer_port + 4 */
	int data_plane;		/* enum data_plane: "kernel" (default) or "userspace" */
	int window_scale;	/* that clients are told; -1 (default): the kernel's; -1..14 */
	int handshake;		/* enum handshake_source: "socket" (default) or "snoop" */
	struct {		/* group `limits` */
		int handshakes; /* snooped, oldest go first; default 65536; 1..16777216 */
		int requests;	/* held at once; default 8192; 1..1048576 */
		int request_bytes; /* of one held request; default 16384; 1024..65535 */
		int flows;	   /* steered; default 262144; 1..16777216 */
		int queue_length;  /* packets waiting for the daemon; default 65535; 1..1048576 */
	} limits;
	struct {		/* group `timeouts` */
		int request_ms; /* until the request is known; default 10000; 100..3600000 */
		int idle_s;	/* steered without a packet of the client; default 300; 1..86400 */
		int closing_s;	/* after FIN or RST of the client; default 60; 1..3600 */
	} timeouts;
	struct {		  /* group `health` */
		int probes;	  /* enum probes: "on" (default) or "off" */
		int interval_ms;  /* between two; default 1000; 100..3600000 */
		int fast_ms;	  /* the same in doubt; default 100; 10..3600000, <= interval_ms */
		int timeout_ms;	  /* for an answer; default 300; 10..60000 */
		int rise;	  /* good answers until up; default 2; 1..100 */
		int fall;	  /* bad ones until down; default 3; 1..100 */
		int slow_start_s; /* until the whole weight; default 30; 0..3600 */
	} health;
	struct pool_settings *pools;
	size_t pool_count;
	size_t backend_count; /* of all pools, resolved by the check */
	struct service_settings *services;
	size_t service_count;
};

/**
 * balancer_settings_load() - read and check @path
 * @running:	what the daemon runs by, if it does: what cannot be changed stays; or NULL
 * Returns the settings, to be freed with balancer_settings_free(), or NULL after every error was
 * written to @errors, one per line.
 */
struct balancer_settings *balancer_settings_load(const char *path,
						 const struct balancer_settings *running,
						 FILE *errors);
void balancer_settings_free(struct balancer_settings *settings);
/** balancer_settings_print() - the canonical form: every setting, defaults too; parses to the same
 */
void balancer_settings_print(const struct balancer_settings *settings, FILE *out);

/* As the file has them. */
const char *settings_protocol(const struct service_settings *service);
const char *settings_fallback(const struct service_settings *service);
const char *settings_key(const struct key_policy *key);

#endif
