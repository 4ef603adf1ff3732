/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The configuration of l3dsr-bridge: what l3dsr-bridge.conf(5) describes, checked. */
#ifndef L3DSR_BRIDGE_SETTINGS_H
#define L3DSR_BRIDGE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/addr.h"

#define NAME_LEN_MAX 63

/** enum check_kind - when is a web server taken for alive? */
enum check_kind { CHECK_CONNECT, CHECK_HTTP };

struct service_settings {
	char name[NAME_LEN_MAX + 1]; /* unique */
	int index;		     /* 1..63; one per VIP and back */
	struct addr vip;	     /* IPv4 */
	int port;		     /* of the VIP; default 80; (vip, port) unique */
	struct addr server;	     /* the web server; IPv4, not the VIP, not the bridge address */
	int server_port;	     /* default 80 */
	int check;		     /* enum check_kind: "connect" (default) or "http" */
	char check_path[256];	     /* default "/" */
	char check_host[256];	     /* empty: the VIP */
	int check_status;	     /* default 200; 100..999 */
	int check_timeout_ms;	     /* default 1000; 10..60000 */
	bool server_shared;	     /* with another service, resolved by the check */
};

/** enum data_plane - who translates the packets of spliced connections, where it can */
enum data_plane { DATA_PLANE_KERNEL, DATA_PLANE_USERSPACE };

struct bridge_settings {
	int threads;		  /* 1..4, default 1 */
	int log_level;		  /* enum log_level */
	int data_plane;		  /* enum data_plane, default DATA_PLANE_KERNEL */
	char key_file[256];	  /* default "/etc/l3dsr/handoff.key" */
	char control[108];	  /* default "/run/l3dsr/bridge.sock" */
	struct addr address;	  /* the bridge's own; default 192.168.33.20 */
	struct {		  /* group `limits` */
		int flows;	  /* default 262144; 1..16777216 */
		int queue_length; /* default 65535; 1..1048576 */
	} limits;
	struct bridge_timeouts {
		int open_ms;   /* for the web server's SYN-ACK; default 3000; 100..60000 */
		int idle_s;    /* default 300; 1..86400 */
		int closing_s; /* after both FINs, or a RST; default 60; 1..3600 */
	} timeouts;	       /* group `timeouts` */
	struct service_settings *services;
	size_t service_count;
};

/**
 * bridge_settings_load() - read and check @path
 * @running:	what the daemon runs by, if it does: what cannot be changed stays; or NULL
 * Returns the settings, to be freed with bridge_settings_free(), or NULL after every error was
 * written to @errors, one per line.
 */
struct bridge_settings *bridge_settings_load(const char *path,
					     const struct bridge_settings *running, FILE *errors);
void bridge_settings_free(struct bridge_settings *settings);
/** bridge_settings_print() - the canonical form: every setting, defaults too; parses to the same */
void bridge_settings_print(const struct bridge_settings *settings, FILE *out);

#endif
