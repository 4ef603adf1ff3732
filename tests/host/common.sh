# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of real hosts share, outside and inside of their machines: how a result is told.

# shellcheck source=../../lab/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../lab/common.sh"

CACHE=$TOP/build/hosts
failures=0

# expect WORDS CMD... - one test: does the command succeed? lab/hosts counts these lines
expect() {
	if "${@:2}"; then
		printf 'pass  %s\n' "$1"
	else
		printf 'FAIL  %s\n' "$1"
		failures=$((failures + 1))
	fi
}

# wait_until SECONDS CMD... - until it succeeds; fails with its output when the time is over
wait_until() {
	local deadline=$((SECONDS + $1)) output
	until output=$("${@:2}" 2>&1); do
		[ $SECONDS -lt $deadline ] || {
			echo "$output"
			return 1
		}
		sleep 0.1
	done
}

# finish_within SECONDS PID - its exit status; ends it when the time is over, or we are ended
finish_within() {
	# shellcheck disable=SC2064
	trap "kill -s KILL $2 2>/dev/null || :" EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	wait_gone "$1" "$2" || {
		say "not at its end after $1 seconds"
		kill -s KILL "$2"
	}
	wait "$2"
}

# property UNIT NAME - of systemd's, on the host where this runs
property() {
	systemctl show --value -p "$2" "$1"
}

# is UNIT NAME PATTERN
is() {
	local value
	value=$(property "$1" "$2")
	[[ $value =~ ^($3)$ ]] || {
		echo "$2 of $1 is $value"
		return 1
	}
}

# content_kernel FILE - is there no complaint of a kernel in it?
content_kernel() {
	! grep -E 'WARNING|BUG|Oops|Call Trace|general protection|hung' "$1"
}

# readme_section HEADING - of README.md, up to the next one; what a backslash divides is one line
readme_section() {
	awk -v heading="### $1" '/^#/ { here = $0 == heading; next } here' "$TOP/README.md" |
		sed -e ':line' -e '/\\$/{N; s/ *\\\n */ /; b line}'
}

# readme_commands HEADING - of that section, one a line
readme_commands() {
	readme_section "$1" | sed -n 's/^    //p'
}

# make_payload DIR - what guests get: the checkout as far as they want it, and the programs
make_payload() {
	local program
	mkdir -p "$1"/{artefacts,programs/lab}
	(cd "$TOP" && cp -a --parents -t "$1" -- etc lab nft tests/host)
	for program in l3dsr-balancer l3dsr-bridge l3dsrctl lab/load-ruleset; do
		cp "$BUILD/$program" "$1/programs/$program"
	done
}
