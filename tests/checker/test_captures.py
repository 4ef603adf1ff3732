# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker on captures of all forms, foreign packets in them, and files that are no captures."""

import collections
import random
import struct
import subprocess

import pytest

from talk import ETHERNET, NFLOG, PROGRAM, Talk, build, check_splice, checker, packet, pcap


@pytest.fixture(name="check")
def fixture_check(tmp_path, capsys):
    return checker(tmp_path, capsys)


@pytest.mark.parametrize("form", [
    {"link": ETHERNET}, {"link": NFLOG}, {"order": ">"}, {"magic": 0xa1b23c4d},
    {"link": NFLOG, "order": ">"}], ids=str)
def test_forms_of_captures(check, form):
    result = check(Talk().handshake().exchange(), **form)
    assert (result.status, result.counts["to-server", "packets"]) == (0, 3)


def test_the_program_itself(tmp_path):
    talk = Talk().handshake().exchange()
    files = [tmp_path / "outside", tmp_path / "inside"]
    files[0].write_bytes(pcap(map(build, talk.outside)))
    files[1].write_bytes(pcap(map(build, talk.inside)))

    def run(*arguments):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)

    assert run(*files).returncode == 0
    files[1].write_bytes(pcap(map(build, talk.inside[:-1])))
    done = run(*files)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("violation: outside #6 1000.000005 "
                                  "[192.168.33.1:4000 -> 192.168.33.10:80] counterpart: ")
    for arguments in ([], files[:1], files + files):
        assert run(*arguments).returncode == 2
    assert run("--help").stdout.startswith("check-splice OUTSIDE.pcap INSIDE.pcap - ")


def test_other_packets(check):
    talk = Talk().handshake().exchange()
    packets = {"outside": list(map(build, talk.outside)), "inside": list(map(build, talk.inside))}
    udp = bytearray(packets["outside"][0])
    udp[9] = 17
    packets["outside"] += [bytes(udp), b"\x60" + bytes(60), build(packet(
        ("10.0.0.1", 1), ("10.0.0.2", 2)))]
    result = check(**{side: pcap(some) for side, some in packets.items()})
    assert result.status == 0
    assert result.counts["not checked outside", "not TCP in IPv4"] == 2
    assert result.counts["not checked outside", "other addresses"] == 1


MALFORMED = {
    "ihl": lambda p: b"\x44" + p[1:],
    "total_length": lambda p: p[:2] + b"\xff\xff" + p[4:],
    "total_length_short": lambda p: p[:2] + b"\0\x13" + p[4:],
    "tcp_cut_off": lambda p: p[:2] + b"\0\x20" + p[4:],
    "data_offset": lambda p: p[:32] + b"\x40" + p[33:],
    "data_offset_long": lambda p: p[:32] + b"\xf0" + p[33:52],
    "fragment": lambda p: p[:6] + b"\x20\0" + p[8:],
    "header_cut_off": lambda p: p[:19],
}


@pytest.mark.parametrize("how", MALFORMED)
def test_malformed_packets(check, how):
    """A bridge may not pass them."""
    talk = Talk().handshake().exchange()
    outside, inside = list(map(build, talk.outside)), list(map(build, talk.inside))
    broken = MALFORMED[how](outside[1])
    result = check(outside=pcap(outside + [broken]), inside=pcap(inside))
    assert (result.status, result.counts["not checked outside", "malformed"]) == (0, 1)
    result = check(outside=pcap(outside + [broken]), inside=pcap(inside + [broken]))
    assert (result.status, result.wrong) == (1, {"packet": 1})


def test_nothing_to_check(check):
    assert check(outside=pcap([]), inside=pcap([])).status == 2
    talk = Talk()
    talk.record()
    assert check(talk).status == 2


GOOD = Talk().handshake().exchange()
GOOD_OUTSIDE, GOOD_INSIDE = (pcap(map(build, GOOD.outside)),
                             pcap(map(build, GOOD.inside), link=NFLOG))
BROKEN = {
    "empty": b"",
    "text": b"these are no packets, but words\n" * 3,
    "pcapng": b"\x0a\x0d\x0d\x0a" + bytes(60),
    "header_cut_off": GOOD_INSIDE[:23],
    "packet_header_cut_off": GOOD_INSIDE[:24 + 15],
    "packet_cut_off": GOOD_INSIDE[:-1],
    "unknown_link": GOOD_INSIDE[:20] + b"\x69\0\0\0" + GOOD_INSIDE[24:],
    "huge_length": GOOD_INSIDE[:32] + b"\xff" * 8 + GOOD_INSIDE[40:],
    "longer_than_the_packet": GOOD_INSIDE[:36] + b"\1\0\0\0" + GOOD_INSIDE[40:],
    "part_of_a_packet": GOOD_INSIDE[:36] + b"\xff\xff\0\0" + GOOD_INSIDE[40:],
    "attribute_too_long": GOOD_INSIDE[:44] + b"\xff\xff" + GOOD_INSIDE[46:],
    "attribute_too_short": GOOD_INSIDE[:44] + b"\3\0" + GOOD_INSIDE[46:],
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_captures(check, what):
    assert check(outside=GOOD_OUTSIDE, inside=GOOD_INSIDE).status == 0
    assert check(outside=GOOD_OUTSIDE, inside=BROKEN[what]).status == 2
    if what not in ("attribute_too_long", "attribute_too_short"):
        assert check(outside=BROKEN[what], inside=GOOD_INSIDE).status == 2


def test_no_such_file(tmp_path, capsys):
    assert check_splice.main([str(tmp_path / "none"), str(tmp_path)]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "file").write_bytes(GOOD_OUTSIDE)
    assert check_splice.main([str(tmp_path / "file"), str(tmp_path)]) == 2


def test_cut_off_anywhere(check):
    """At the end of a packet it is a shorter capture; anywhere else it is broken."""
    ends, at = {24}, 24
    while at < len(GOOD_OUTSIDE):
        at += 16 + struct.unpack_from("<I", GOOD_OUTSIDE, at + 8)[0]
        ends.add(at)
    assert at == len(GOOD_OUTSIDE)
    for length in range(len(GOOD_OUTSIDE)):
        status = check(outside=GOOD_OUTSIDE[:length], inside=GOOD_INSIDE).status
        assert status == 2 if length not in ends else status in (1, 2)


def test_noise(check):
    """Whatever stands in the files: an exit status and no traceback."""
    choose = random.Random(3)
    seen = collections.Counter()
    for _ in range(600):
        files = [bytearray(GOOD_OUTSIDE), bytearray(GOOD_INSIDE)]
        for _ in range(choose.choice([1, 1, 3, 30])):
            file = choose.choice(files)
            file[choose.randrange(len(file))] = choose.randrange(256)
        seen[check(outside=bytes(files[0]), inside=bytes(files[1])).status] += 1
    assert seen.keys() == {0, 1, 2} and seen[1] > seen[0]
