#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Holds the man pages against mandoc's own idea of a good page.

if test -z "$MANDOC"; then
	echo "man pages not checked: configure did not find mandoc"
	exit 77
fi
exec "$MANDOC" -T lint -W warning "${srcdir:-.}"/man/*.[1-9]
