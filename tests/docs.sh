#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Holds the man pages against the programs: options, settings with their defaults, counters.
#
# What a page documents stands in lists, as items of one form:
#
#   .It Fl c Ar file , Fl -config Ar file	an option; .It Cm NAME is a command of l3dsrctl
#   .It Ic limits.flows				a setting, with a line "Default: VALUE.", "Required."
#						or "Optional.", which has no default
#   .It Va packets				a counter, in section COUNTERS, followed by its sentence
#
# Programs are taken from the current directory, pages and sources from $srcdir.

export LC_ALL=C
top=$(cd "${srcdir:-.}" && pwd) || exit 1
programs=$(pwd)
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

passed=0
failed=0

# The same lines in both files, of which there must be some? What differs is shown.
same() { # what, file of the program, file of the page
	sort -o "$2" "$2"
	sort -o "$3" "$3"
	if test -s "$2" && diff -u "$2" "$3"; then
		passed=$((passed + 1))
		return
	fi
	failed=$((failed + 1))
	echo "^^^ $1: - what the program says, + what the page says"
}

# Options and commands of a help text: all columns of its table but the last, which explains.
help_options() { # program
	"$programs/$1" --help | awk '
		/^  / {
			sub(/^ +/, "")
			columns = split($0, column, /  +/)
			for (i = 1; i < columns; i++) {
				words = split(column[i], word, /[][, ]+/)
				for (j = 1; j <= words; j++)
					if (word[j] ~ /^-/ || (i == 1 && j == 1 && word[j] != ""))
						print word[j]
			}
		}'
}

page_options() { # page
	awk '
		/^\.It (Fl|Cm) / {
			for (i = 2; i < NF; i++)
				if ($i == "Fl")
					print "-" $(i + 1)
				else if ($i == "Cm")
					print $(i + 1)
		}' "$1"
}

# "NAME VALUE" of every setting of a canonical configuration; groups and lists have no value.
printed_settings() { # daemon, file
	"$programs/l3dsr-$1" -nv -c "$2" | awk '
		function full(name, path, i) {
			path = ""
			for (i = 1; i <= depth; i++)
				if (group[i] != "")
					path = path group[i] "."
			return path name
		}
		{ sub(/^[ \t]+/, "") }
		/^[a-z_]+ = [{(]$/ { print full($1); group[++depth] = $1; next }
		/^{$/ { group[++depth] = ""; next }
		/^[})][;,]?$/ { depth--; next }
		/^[a-z_]+ = .*;$/ {
			name = full($1)
			sub(/^[^=]*= /, "")
			sub(/;$/, "")
			print name, $0
			next
		}
		{ print "not understood:", $0 }' | sort -u
}

# "NAME", and behind it the default, of every setting that a page documents.
page_settings() { # page
	awk '
		function finish() {
			if (name != "")
				print name (value == "" ? "" : " " value)
			name = value = ""
		}
		/^\.It Ic [^ ]+$/ { finish(); name = $3; next }
		/^\.(It|El|Sh|Ss)/ { finish() }
		name != "" && sub(/^Default: /, "") { sub(/\.$/, ""); value = $0 }
		END { finish() }' "$1"
}

# "NAME SENTENCE" of every counter of a daemon.
header_counters() { # BALANCER or BRIDGE
	{ tr '\n\\' '  ' <"$top/src/lib/counters.h"; echo; } | sed 's/X(/\n&/g' |
		sed -n 's/^X([A-Z0-9_]*, *\([a-z0-9_]*\), *\([A-Z]*\), *"\([^"]*\)").*/\2 \1 \3/p' |
		sed -n "s/^$1 //p; s/^BOTH //p"
}

page_counters() { # page
	awk '
		function finish() {
			if (name != "")
				print name sentence
			name = sentence = ""
		}
		/^\.Sh/ { finish(); inside = $2 == "COUNTERS"; next }
		!inside { next }
		/^\.It Va / { finish(); name = $3; next }
		/^\./ { finish(); next }
		name != "" { sentence = sentence " " $0 }' "$1"
}

cd "$scratch" || exit 1
for program in l3dsr-balancer l3dsr-bridge l3dsrctl; do
	help_options $program >said
	page_options "$top/man/$program.8" >documented
	same "$program: options" said documented
done

for daemon in balancer bridge; do
	page=$top/man/l3dsr-$daemon.conf.5
	for file in "$top/etc/$daemon.conf" "$top/tests/conf/good/$daemon-full.in"; do
		printed_settings $daemon "$file"
	done | cut -d' ' -f1 | sort -u >said
	page_settings "$page" | cut -d' ' -f1 >documented
	same "l3dsr-$daemon.conf: settings" said documented

	# What a configuration without that setting prints; what it has to hold has no default.
	page_settings "$page" | grep ' ' >documented
	printed_settings $daemon "$top/tests/conf/good/$daemon-minimal.in" | while read -r name value; do
		required=$(sed -n "/^\.It Ic $name\$/,/^\.It/{/^Required\.\$/p; /^Optional\.\$/p;}" "$page")
		if test -n "$value" && test -z "$required"; then
			echo "$name $value"
		fi
	done >said
	same "l3dsr-$daemon.conf: defaults" said documented

	# Those of the table that take a restart, and the groups in which all do.
	awk '
		/^static const struct setting [a-z]+\[\]/ { table = $5; sub(/\[.*/, "", table) }
		/\.name = "/ { name = $0; sub(/.*\.name = "/, "", name); sub(/".*/, "", name) }
		/\.fixed = true/ { print table == "table" ? name : table }' \
		"$top/src/$daemon/settings.c" | sort -u >said
	sed -n '/waits for a restart:$/,/^\.Pp\|^\.Sh/s/^\.Ic \([a-z_]*\).*/\1/p' \
		"$top/man/l3dsr-$daemon.8" >documented
	same "l3dsr-$daemon: what takes a restart" said documented

	header_counters "$(echo $daemon | tr a-z A-Z)" >said
	page_counters "$top/man/l3dsr-$daemon.8" >documented
	same "l3dsr-$daemon: counters" said documented
done

# Every line of the header's table was understood.
grep -v '#define' "$top/src/lib/counters.h" | grep -o '\<X(' | wc -l | tr -d ' ' >said
{ header_counters BALANCER; header_counters BRIDGE; } | sort -u | wc -l | tr -d ' ' >documented
same "counters.h" said documented

echo "$passed passed, $failed failed"
test $failed -eq 0
