#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Does bash complete what l3dsrctl understands? Its help, in the current directory, says what that is.

top=$(cd "${srcdir:-.}" && pwd) || exit 1
# shellcheck source=../completion/l3dsrctl
. "$top/completion/l3dsrctl" || exit 1
passed=0
failed=0

# offers EXPECTED WORD... - what is offered when the last word is being typed
offers() {
	local expected=$1 got
	shift
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	_l3dsrctl
	got=$(printf '%s\n' "${COMPREPLY[@]}" | sort | xargs)
	if [ "$got" = "$expected" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "$*: offered '$got', expected '$expected'"
	fi
}

# Of the help: all commands, and all that is shown.
LC_ALL=C
export LC_ALL
help=$(./l3dsrctl --help) || exit 1
commands=$(sed -n 's/^  \([a-z]*\) .*/\1/p' <<<"$help" | sort -u | xargs)
shown=$(sed -n 's/^  show \([a-z]*\) .*/\1/p' <<<"$help" | sort | xargs)
offers "--help -V -j -s $commands" l3dsrctl ''
offers "-j -s $shown" l3dsrctl show ''
offers "-j -s $shown" l3dsrctl -j -s ./socket show ''
offers show l3dsrctl sh
offers flows l3dsrctl show f
offers "-j -s backend= client= service=" l3dsrctl show flows ''
offers backend= l3dsrctl show flows client=192.0.2.1 b
offers "-j -s" l3dsrctl show counters ''
offers "http:// https://" l3dsrctl lookup h
offers alpn= l3dsrctl lookup https://a/ a
offers balancer l3dsrctl -s bal

# A daemon that has these backends.
l3dsrctl() {
	[ "$*" = "show pools" ] && printf '%s\n' "service pool backend" "www a b1" "www a b2" "www b b1"
	[ "$*" = "-s other show pools" ] && printf '%s\n' "service pool backend" "www a b3"
}
offers "-j -s b1 b2" l3dsrctl drain ''
offers "-j -s b3" l3dsrctl -s other activate ''
offers b2 l3dsrctl -j weight b2
offers configured l3dsrctl weight b2 c
offers "-j -s" l3dsrctl drain b1 ''

echo "$passed passed, $failed failed"
[ $failed = 0 ]
