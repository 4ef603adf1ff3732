# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-2.0-or-later
# What the scripts of the lab share: names, addresses, and how to find and end what belongs to a lab.
#
#   L3DSR_LAB	suffix of all names (default 0); labs with different ones do not see each other
#   L3DSR_BUILD	where the programs were built (default: the checkout)

set -euo pipefail

TOP=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
LAB=${L3DSR_LAB:-0}
BUILD=${L3DSR_BUILD:-$TOP}
[[ $BUILD = /* ]] || BUILD=$(realpath -m "$BUILD")
STATE=/run/l3dsr-lab-$LAB
NETNS=l3dsr-$LAB		# that of a host is $NETNS-HOST
FILES=$TOP/build/lab-files	# what the web servers serve: made once, shared by all labs
VIP=192.168.33.10
BACKENDS_MAX=4

# Programs of the system live in sbin, which is not in every user's PATH.
export PATH=$PATH:/usr/sbin:/sbin

say() {
	printf '%s\n' "${0##*/}: $*" >&2
}

die() {
	say "$@"
	exit 1
}

# help - print the comment at the head of the script that is running, up to the first empty line
help() {
	sed -n '/^# SPDX/d; 2,/^$/s/^# \{0,1\}//p' "$0"
}

usage() {
	help >&2
	exit 2
}

need_root() {
	[ "$EUID" = 0 ] || die "network namespaces want root: run it with sudo"
}

# set_backends N - what hosts and daemons a lab with that many backends has
set_backends() {
	local number
	HOSTS=(client balancer)
	DAEMONS=(balancer)
	for ((number = 1; number <= $1; number++)); do
		HOSTS+=("backend$number")
		DAEMONS+=("bridge$number")
	done
}

# Those of the lab that is up; without one, what lab/up would make.
if [ -r "$STATE/backends" ]; then
	set_backends "$(<"$STATE/backends")"
else
	set_backends 2
fi

is_host() {
	local host
	for host in "${HOSTS[@]}"; do
		[ "$host" != "$1" ] || return 0
	done
	return 1
}

# inside HOST CMD... - run a command in the namespace of a host, or of the switch
inside() {
	ip netns exec "$NETNS-$1" "${@:2}"
}

is_up() {
	[ -e "$STATE/up" ]
}

# daemon_host NAME - the host that a daemon runs on; fails if there is no such daemon
daemon_host() {
	local name
	for name in "${DAEMONS[@]}"; do
		[ "$name" != "$1" ] || {
			echo "${name/bridge/backend}"
			return 0
		}
	done
	return 1
}

# marked PATTERN - pids of all processes with such an L3DSR_LAB_MEMBER in the environment they began with
#
# The mark is inherited, so this finds the children of a daemon as well, wherever they went.
marked() {
	{ grep -lszx "L3DSR_LAB_MEMBER=$1" /proc/[0-9]*/environ || [ $? -le 2 ]; } | cut -d/ -f3
}

# daemon_pids NAME - all its processes
daemon_pids() {
	marked "${LAB//./\\.}:$1"
}

# wait_gone SECONDS PID... - wait until none of them lives; fails when the time is over
wait_gone() {
	local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000)) pid state
	for pid in "${@:2}"; do
		# A zombie is gone: its parent may take its time.
		while state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) &&
			[ -n "$state" ] && [ "${state:0:1}" != Z ]; do
			[ "${EPOCHREALTIME/[.,]/}" -lt "$deadline" ] || return 1
			sleep 0.01
		done
	done
}

# end_all SIGNAL SECONDS PID... - send the signal and wait until they are gone
end_all() {
	[ $# -gt 2 ] || return 0
	# Some may be gone already; the wait tells whether all are.
	kill -s "$1" "${@:3}" 2>/dev/null || :
	wait_gone "$2" "${@:3}"
}

# start_daemon NAME - start it, return when it is ready; prints the end of its log if it is not
start_daemon() {
	local name=$1 program=l3dsr-bridge
	[ "$name" != balancer ] || program=l3dsr-balancer
	/usr/bin/python3 -ES "$TOP/lab/supervise" "$LAB:$name" "$STATE" "$name" \
		ip netns exec "$NETNS-$(daemon_host "$name")" \
		"$BUILD/$program" -c "$STATE/$name.conf"
}

# iface_bytes HOST - bytes that its interface received and sent, as two numbers
iface_bytes() {
	inside "$1" cat /sys/class/net/eth0/statistics/rx_bytes /sys/class/net/eth0/statistics/tx_bytes |
		paste -sd' '
}

# raise_nofile - room for thousands of connections, as LimitNOFILE of a unit would give it
raise_nofile() {
	local hard
	hard=$(ulimit -Hn)
	if [ "$hard" = unlimited ] || [ "$hard" -gt 65536 ]; then
		hard=65536
	fi
	ulimit -Sn "$hard"
}

# make_files MEGABYTES... - those that the web servers serve, in FILES, if they are not there
#
# The bytes are those of a cipher over zeros: the same everywhere, and nothing compresses them.
make_files() {
	local size new=$FILES.new
	mkdir -p "${FILES%/*}"
	(
		flock 9
		[ ! -e "$FILES/SHA256SUMS" ] || exit 0
		say "making the files that are fetched, once"
		rm -rf "$FILES" "$new"
		mkdir "$new"
		for size in "$@"; do
			head -c "${size}000000" /dev/zero |
				openssl enc -aes-128-ctr -nosalt -K "$(printf %032d "$size")" -iv 0 \
					2>"$new/errors" >"$new/${size}M.bin" || { cat "$new/errors" >&2; exit 1; }
		done
		rm "$new/errors"
		(cd "$new" && sha256sum -- *.bin >sums && mv sums SHA256SUMS)
		mv "$new" "$FILES"
	) 9>"$FILES.lock"
}
