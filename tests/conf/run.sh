#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Golden tests of the configuration: canonical form of what is right, messages about what is wrong.
#
# DAEMON-NAME.in is read by l3dsr-DAEMON. In good/, NAME.out is its canonical form, which must also
# be its own; in bad/, NAME.err is all that is said about it. Files *.inc are included by others.
# Programs are taken from the current directory, goldens from $srcdir.

top=$(cd "${srcdir:-.}" && pwd) || exit 1
programs=$(pwd)
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

passed=0
failed=0

# The same in both files? The difference is shown.
same() { # what, expected, got
	if diff -u "$2" "$3"; then
		return 0
	fi
	echo "^^^ $1: - expected, + got"
	return 1
}

# Runs l3dsr-DAEMON -nv on a file of the current directory, into the files out and err.
canonical() { # daemon, file
	"$programs/l3dsr-$1" -nv -c "$2" >"$scratch/out" 2>"$scratch/err"
}

check_good() { # file, golden
	daemon=${1%%-*}
	: >"$scratch/nothing"
	canonical "$daemon" "$1"
	status=$?
	test $status -eq 0 || echo "$1: exit status $status instead of 0"
	same "$1: messages" "$scratch/nothing" "$scratch/err" &&
		same "$1: canonical form" "$2" "$scratch/out" &&
		cp "$scratch/out" "$scratch/$daemon-again" &&
		canonical "$daemon" "$scratch/$daemon-again" &&
		same "$1: canonical form, read again" "$2" "$scratch/out" &&
		test $status -eq 0
}

check_bad() { # file, golden
	: >"$scratch/nothing"
	canonical "${1%%-*}" "$1"
	status=$?
	test $status -eq 1 || echo "$1: exit status $status instead of 1"
	same "$1: standard output" "$scratch/nothing" "$scratch/out" &&
		same "$1: messages" "$2" "$scratch/err" &&
		test $status -eq 1
}

count() { # check, file, golden
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
}

# A copy, because the names of files are part of the messages. The shipped examples are among it.
mkdir "$scratch/good" "$scratch/bad"
cp "$top"/tests/conf/good/* "$scratch/good" && cp "$top"/tests/conf/bad/* "$scratch/bad" || exit 1
for daemon in balancer bridge; do
	cp "$top/etc/$daemon.conf" "$scratch/good/$daemon-shipped.in" || exit 1
done

cd "$scratch/good" || exit 1
for file in *.in; do
	count check_good "$file" "${file%.in}.out"
done
cd "$scratch/bad" || exit 1
for file in *.in; do
	count check_bad "$file" "${file%.in}.err"
done
count check_bad balancer-that-is-not-there.in balancer-that-is-not-there.err

echo "$passed passed, $failed failed"
test $failed -eq 0
