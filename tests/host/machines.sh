# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-2.0-or-later
# Virtual machines with Debian's kernel, emulated, so that this works everywhere. For tests/host/NAME, which
# source it, and say in DIR where the files of their machines are.

PAYLOAD=$DIR/payload

# make_disk FILE - one that is at first as the root file system of make-roots
make_disk() {
	qemu-img create -q -f qcow2 -F raw -b "$CACHE/system.img" "$1"
}

# pack_payload MEGABYTES - make a disk of that size of the directory
pack_payload() {
	truncate -s "$1M" "$PAYLOAD.img"
	mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$PAYLOAD" "$PAYLOAD.img"
	rm -r "$PAYLOAD"
}

# machine DISK KERNEL-ARGUMENTS QEMU-ARGUMENT... - QEMU, in the place of this shell
machine() {
	exec qemu-system-x86_64 -accel tcg,thread=multi,tb-size=256 -cpu max -M q35 -smp 1 -m 768 \
		-nodefaults -no-user-config -display none -kernel "$CACHE/system.vmlinuz" \
		-append "root=/dev/nvme0n1 rw console=ttyS0 quiet loglevel=4 panic=-1 $2" \
		-drive "if=none,id=system,file=$1,cache=unsafe" \
		-device nvme,drive=system,serial=system \
		-drive "if=none,id=payload,file=$PAYLOAD.img,format=raw,cache=unsafe${PAYLOAD_OPTIONS-}" \
		-device nvme,drive=payload,serial=payload "${@:3}"
}
