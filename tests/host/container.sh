# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-2.0-or-later
# A container with systemd as its process 1, on this machine's kernel and without a network of this machine.
# For tests/host/NAME, which source it; NAME.guest is what happens inside. In build/hosts/NAME:
#
#   console     what systemd said
#   payload/    what the container has in /mnt: result, and artefacts/ with the journal

# Alone each takes less than a minute.
SECONDS_MAX=300
NAME=$(basename "$0")
DIR=$CACHE/$NAME
CGROUP=l3dsr-$NAME-$$

# contain - in namespaces of our own, so that nothing of this machine is mounted or announced
contain() {
	# shellcheck disable=SC2016
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 unshare --mount --pid --fork --mount-proc --kill-child \
		bash -euc '
		mount -t tmpfs tmpfs /run
		mkdir /run/lock
		umount -R /sys/fs/cgroup
		mount -t cgroup2 cgroup2 /sys/fs/cgroup
		mkdir "/sys/fs/cgroup/$1"
		echo 0 >"/sys/fs/cgroup/$1/cgroup.procs"
		exec systemd-nspawn --quiet --boot --directory="$2/system" --volatile=overlay \
			--register=no --keep-unit --machine="$1" --private-network \
			--capability=CAP_NET_ADMIN,CAP_NET_RAW --bind="$2/$3/payload:/mnt" \
			--console=pipe "systemd.run=/mnt/tests/host/$3.guest" quiet
	' bash "$CGROUP" "$CACHE" "$NAME" </dev/null
}

# remove_cgroup - with those that systemd made below it
# shellcheck disable=SC2016,SC2317
remove_cgroup() {
	unshare --mount bash -euc '
		umount -R /sys/fs/cgroup
		mount -t cgroup2 cgroup2 /sys/fs/cgroup
		[ ! -d "/sys/fs/cgroup/$1" ] || find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
	' bash "$CGROUP"
}

# run_contained - the whole test: with a payload that is there, until the container has ended
run_contained() {
	local container status=0
	contain >"$DIR/console" 2>&1 &
	container=$!
	# shellcheck disable=SC2064
	trap "kill $container 2>/dev/null || :; wait_until 10 remove_cgroup" EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	wait_gone $SECONDS_MAX $container || {
		say "not at its end after $SECONDS_MAX seconds"
		kill $container
	}
	wait $container || status=$?
	cat "$DIR/payload/result"
	[ $status = 0 ] || cat "$DIR/console"
	return $status
}
