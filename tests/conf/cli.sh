#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Command lines of the programs: what they print, where, and with which exit status.
#
# Programs are taken from the current directory, the shipped examples from $srcdir.

top=$(cd "${srcdir:-.}" && pwd) || exit 1
programs=$(pwd)
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

passed=0
failed=0

# Run a program; what it must give: exit status, and patterns of grep that stdout and stderr match
# as a whole. The pattern '' stands for nothing at all.
expect() { # status, stdout, stderr, program, argument...
	status=$1 out=$2 err=$3
	shift 3
	"$programs/$@" >"$scratch/out" 2>"$scratch/err" </dev/null
	got=$?
	if test $got -eq "$status" && matches "$out" "$scratch/out" && matches "$err" "$scratch/err"; then
		passed=$((passed + 1))
		return
	fi
	failed=$((failed + 1))
	echo "FAILED: $*"
	echo "  exit status: expected $status, got $got"
	echo "  stdout: expected '$out', got:"
	sed 's/^/    /' "$scratch/out"
	echo "  stderr: expected '$err', got:"
	sed 's/^/    /' "$scratch/err"
}

matches() { # pattern, file
	if test -z "$1"; then
		test ! -s "$2"
	else
		tr '\n' ' ' <"$2" | grep -Eq -- "^($1) \$"
	fi
}

# As expect, for something that must hold after it.
holds() { # what, command...
	what=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED: $what"
	fi
}

try() { # program
	echo "Try '$1 --help' for more information\\."
}

cd "$scratch" || exit 1
echo 'threads = 9;' >bad.conf

for daemon in balancer bridge; do
	program=l3dsr-$daemon
	conf=$top/etc/$daemon.conf
	expect 0 "$program [0-9]+\\.[0-9]+\\.[0-9]+" '' $program -V
	expect 0 "Usage: $program \\[-c FILE\\].*" '' $program --help
	expect 0 '' ".*/etc/$daemon\\.conf: configuration is valid" $program -n -c "$conf"
	expect 0 '' ".*/etc/$daemon\\.conf: configuration is valid" $program -n --config "$conf"
	expect 0 'threads = 1;.*' '' $program -nv -c "$conf"
	expect 0 'threads = 1;.*' '' $program -n -v "--config=$conf"
	expect 1 '' 'bad\.conf: .*bad\.conf:1: threads: 9 is out of range; .*' $program -n -c bad.conf
	expect 1 '' 'bad\.conf: .*bad\.conf:1: threads: 9 is out of range; .*' $program -c bad.conf
	expect 1 '' '\.: not a regular file' $program -n -c .
	expect 2 '' "$program: -v belongs to -n $(try $program)" $program -v
	expect 2 '' "$program: no arguments .* $(try $program)" $program "$conf"
	expect 2 '' "$program: no arguments .* $(try $program)" $program -n -c "$conf" more
	expect 2 '' ".*option requires an argument.* $(try $program)" $program -c
	expect 2 '' ".*option.*x.* $(try $program)" $program -x
	expect 2 '' ".*option.*--check.* $(try $program)" $program --check
	"$programs/$program" -nv -c "$conf" >/dev/full 2>full.err
	holds "$program tells that its output was lost" test $? -eq 1
done

# A pool of as many backends as a handover can try, and of one more.
many_backends() {
	echo 'services = ({ name = "w"; address = "192.168.33.10"; index = 1; pool = "p"; });'
	echo 'pools = ({ name = "p"; backends = ('
	seq "$1" | awk 'NR > 1 { print "," }
		{ printf "{ name = \"b%d\"; address = \"10.0.%d.%d\"; }\n", $1, $1 / 250, $1 % 250 + 1 }'
	echo '); });'
}
many_backends 1024 >many.conf
expect 0 '' 'many\.conf: configuration is valid' l3dsr-balancer -n -c many.conf
many_backends 1025 >many.conf
expect 1 '' 'many\.conf:2: pools\[0\]\.backends: 1025 backends are too many; .* at most 1024' \
	l3dsr-balancer -n -c many.conf

expect 0 'l3dsrctl [0-9]+\.[0-9]+\.[0-9]+' '' l3dsrctl -V
expect 0 'Usage: l3dsrctl \[-j\] \[-s SOCKET\] COMMAND .*' '' l3dsrctl --help
expect 2 '' "l3dsrctl: a command is expected $(try l3dsrctl)" l3dsrctl
expect 2 '' "l3dsrctl: 'gen' is not a command $(try l3dsrctl)" l3dsrctl gen
expect 2 '' ".*option.*x.* $(try l3dsrctl)" l3dsrctl -x
expect 2 '' "l3dsrctl: show: what is to be shown\\? $(try l3dsrctl)" l3dsrctl show
expect 2 '' "l3dsrctl: lookup: a URL is expected $(try l3dsrctl)" l3dsrctl lookup
for command in drain activate weight; do
	expect 2 '' "l3dsrctl: $command: the name of a backend is expected $(try l3dsrctl)" l3dsrctl "$command"
done
expect 2 '' ".*option.*x.* $(try l3dsrctl)" l3dsrctl show -x
expect 2 '' "l3dsrctl: these are too many .* $(try l3dsrctl)" l3dsrctl show 1 2 3 4 5 6 7 8 9 a b c d e f g
expect 3 '' 'l3dsrctl: \./none\.sock: No such file or directory' l3dsrctl -s ./none.sock show flows
expect 3 '' 'l3dsrctl: \./none\.sock: No such file or directory' l3dsrctl show flows -js ./none.sock
expect 3 '' 'l3dsrctl: /run/l3dsr/nobody\.sock: No such file or directory' l3dsrctl -s nobody lookup x
expect 2 '' "l3dsrctl: genkey: the name of one file .* $(try l3dsrctl)" l3dsrctl genkey
expect 2 '' "l3dsrctl: genkey: the name of one file .* $(try l3dsrctl)" l3dsrctl genkey a b
expect 2 '' ".*option.*x.* $(try l3dsrctl)" l3dsrctl genkey -x a
for id in 0 65536 -1 1x '' 99999999999999999999; do
	expect 2 '' "l3dsrctl: genkey: the id of a key .* $(try l3dsrctl)" l3dsrctl genkey -i "$id" a
done
holds "wrong usage makes no file" test ! -e a

expect 0 '' '' l3dsrctl genkey default.key
expect 0 '' '' l3dsrctl genkey -i 65535 high.key
holds "the default id is 1, the key has 64 digits" grep -Eqx '1 [0-9a-f]{64}' default.key
holds "-i chooses the id" grep -Eqx '65535 [0-9a-f]{64}' high.key
holds "a key file is closed to others" test "$(stat -c %a default.key)" = 600
holds "two keys differ" test "$(cut -d' ' -f2 default.key)" != "$(cut -d' ' -f2 high.key)"
cp default.key before.key
expect 1 '' 'l3dsrctl: default\.key: exists already, and is left as it is' l3dsrctl genkey default.key
holds "a key file is never overwritten" cmp -s before.key default.key
expect 1 '' 'l3dsrctl: none/new\.key: No such file or directory' l3dsrctl genkey none/new.key

# A daemon does not start with keys that others can read.
for daemon in balancer bridge; do
	program=l3dsr-$daemon
	sed "s|^key_file = .*|key_file = \"$scratch/default.key\";|" "$top/etc/$daemon.conf" >$daemon.conf
	chmod 644 default.key
	expect 1 '' "$program: error: .*/default\\.key: mode 0644 lets others .*" $program -c $daemon.conf
	sed "s|^key_file = .*|key_file = \"$scratch/no.key\";|" "$top/etc/$daemon.conf" >$daemon.conf
	expect 1 '' "$program: error: .*/no\\.key: No such file or directory: .*genkey.*" $program -c $daemon.conf
done

echo "$passed passed, $failed failed"
test $failed -eq 0
