# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker on connections made byte by byte: what is right passes, each thing wrong is named."""

import copy
import random

import pytest

from talk import (ABORT, ACK, ASK, BRIDGE, CLIENT, FIN, NOP, PSH, RST, SACK, SERVER, SYN,
                  TIMESTAMPS, U32, VIP, WSCALE, Talk, build, checker, packet, timestamps)


@pytest.fixture(name="check")
def fixture_check(tmp_path, capsys):
    return checker(tmp_path, capsys)


def test_a_good_connection(check):
    result = check(Talk().handshake().exchange())
    assert (result.status, result.wrong) == (0, {})
    counts = result.counts
    assert counts["to-server", "packets"] == counts["to-server", "seq"] == 3
    assert counts["to-client", "packets"] == counts["to-client", "TSval"] == 2
    assert counts["to-client", "other options"] == 4
    assert counts["inside to-client", "TCP checksum unfinished"] == 3
    assert counts["outside to-client", "TCP checksum right"] == 2
    assert counts["excused inside", "SYN-ACK"] == counts["connections", "spliced"] == 1
    assert counts["handshakes", "isn_b of the record"] == 1
    assert counts["handshakes", "ts_b of the record"] == 1


# One field wrong

def add(name, number):
    def change(p):
        p[name] += number
    return change


def xor(name, bits):
    def change(p):
        p[name] ^= bits
    return change


def put(name, value):
    def change(p):
        p[name] = value
    return change


def in_option(number, at, bits=0x40):
    """Change a byte of an option."""
    def change(p):
        option = bytearray(p["options"][number])
        option[at] ^= bits
        p["options"][number] = bytes(option)
    return change


def swap_options(p):
    p["options"][0], p["options"][1] = p["options"][1], p["options"][0]


def drop_option(p):
    p["options"][0] = b""


# Options of the packet: an unknown one, NOP, NOP, timestamps, NOP, NOP, SACK with two blocks.
UNKNOWN = b"\x1e\x04ab"
WRONG = {
    "seq": (add("seq", 1), {"seq"}),
    "ack": (add("ack", -1), {"ack"}),
    "window_up": (add("window", 1), {"window"}),
    "window_down": (add("window", -1), {"window"}),
    "urgent": (add("urgent", 1), {"urgent"}),
    "ecn": (xor("tos", 1), {"ecn"}),
    "ce": (xor("tos", 3), {"ecn"}),
    "dscp": (xor("tos", 4), {"dscp"}),
    "ttl": (add("ttl", -1), {"ttl"}),
    "id": (add("id", 1), {"id"}),
    "dont_fragment": (put("fragment", 0), {"fragment"}),
    "push": (xor("flags", PSH), {"flags"}),
    "fin": (xor("flags", FIN), {"flags"}),
    "ece": (xor("flags", 0x40), {"flags"}),
    "reserved": (xor("flags", 0x400), {"flags"}),
    "payload": (put("payload", b"abcdEfgh"), {"payload from byte 4"}),
    "payload_gone": (put("payload", b""), {"payload", "length"}),
    "payload_longer": (put("payload", b"abcdefghi"), {"payload from byte 8", "length"}),
    "tsval": (in_option(3, 5), {"TSval"}),
    "tsecr": (in_option(3, 9), {"TSecr"}),
    "sack_left": (in_option(6, 5), {"SACK block 1 left edge"}),
    "sack_right": (in_option(6, 9), {"SACK block 1 right edge"}),
    "sack_2_left": (in_option(6, 10), {"SACK block 2 left edge"}),
    "sack_2_right": (in_option(6, 17), {"SACK block 2 right edge"}),
    "unknown_option": (in_option(0, 3), {"option 30"}),
    "option_order": (swap_options, {"option order"}),
    "option_gone": (drop_option, {"option order", "data offset", "length"}),
    "ip_checksum": (put("ip_checksum", 0x0100), {"IP checksum"}),
    "tcp_checksum": (put("tcp_checksum", "wrong"), {"TCP checksum"}),
    "unfinished": (put("tcp_checksum", "unfinished"), {"TCP checksum"}),
    "source_port": (put("source", ("192.168.33.30", 81)), {"counterpart"}),
    "destination": (put("destination", ("192.168.33.7", 80)), {"counterpart"}),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_one_field_is_wrong(check, direction, wrong):
    change, expected = WRONG[wrong]
    talk = Talk().handshake()
    getattr(talk, direction)(payload=b"abcdefgh", edges=(2000, 3000, 5000, 6000), id=77,
                             others=[UNKNOWN])
    good = copy.deepcopy(talk)
    assert check(good.exchange()).status == 0

    packets = talk.inside if direction == "to_server" else talk.outside
    if wrong == "unfinished" and direction == "to_client":
        talk.inside[-1]["tcp_checksum"] = "right"
    change(packets[-1])
    result = check(talk.exchange())
    assert result.status == 1
    found = set(result.wrong)
    if expected == {"counterpart"}:
        # Nobody knows it any more: it is missed where it should have been.
        assert "counterpart" in found and found <= {"counterpart", "connection"}
    else:
        assert found == expected
        assert sum(result.wrong.values()) == len(expected)


@pytest.mark.parametrize("name", ["IP checksum", "TCP checksum"])
@pytest.mark.parametrize("side,number", [("outside", 1), ("inside", 2), ("inside", 3),
                                         ("outside", 2), ("outside", 0), ("inside", 0)])
def test_checksums_of_all_packets(check, side, number, name):
    talk = Talk().handshake().exchange()
    broken = getattr(talk, side)[number]
    if name == "IP checksum":
        broken["ip_checksum"] = 0x4000
    else:
        broken["tcp_checksum"] = "wrong"
    result = check(talk)
    assert result.wrong == {name: 1}
    assert f"violation: {side} #{number + 1} " in result.text


def test_an_unfinished_checksum_stays_unfinished(check):
    """As between two hosts that are namespaces of one machine."""
    talk = Talk().handshake().exchange()
    for p in talk.outside + talk.inside:
        p["tcp_checksum"] = "unfinished"
    result = check(talk)
    assert (result.status, result.counts["outside to-client", "TCP checksum unfinished"]) == (0, 2)


def test_an_unfinished_checksum_that_is_right_by_chance(check):
    """The web server's host left it to the interface, and so did the bridge's."""
    talk = Talk().handshake()
    talk.to_client(payload=bytes(2))
    for p in talk.outside + talk.inside:
        p["tcp_checksum"] = "unfinished"
    left = dict(talk.inside[-1], tcp_checksum="right", payload=b"")
    for number in range(1 << 16):
        left["payload"] = number.to_bytes(2, "big")
        if build(left) == build(dict(left, tcp_checksum="unfinished")):
            break
    assert build(left) == build(dict(left, tcp_checksum="unfinished"))
    talk.inside[-1]["payload"] = talk.outside[-1]["payload"] = left["payload"]
    result = check(talk)
    assert result.wrong == {}
    assert result.counts["inside to-client", "TCP checksum right or unfinished"] == 1


# Who belongs to whom

@pytest.mark.parametrize("side", ["outside", "inside"])
def test_a_packet_is_missing(check, side):
    for number, p in enumerate(getattr(Talk().handshake().exchange(), side)):
        if p["flags"] & SYN:
            continue
        talk = Talk().handshake().exchange()
        del getattr(talk, side)[number]
        assert check(talk).wrong["counterpart"] == 1


@pytest.mark.parametrize("side", ["outside", "inside"])
def test_a_packet_comes_twice(check, side):
    for number, p in enumerate(getattr(Talk().handshake().exchange(), side)):
        if p["flags"] & SYN:
            continue
        talk = Talk().handshake().exchange()
        packets = getattr(talk, side)
        packets.insert(number, packets[number])
        assert check(talk).wrong == {"counterpart": 1}


def test_two_equal_packets(check):
    talk = Talk().handshake().exchange()
    for packets in talk.outside, talk.inside:
        packets.append(packets[-1])
    result = check(talk)
    assert (result.status, result.counts["to-server", "packets"]) == (0, 4)


def test_packets_change_places(check):
    talk = Talk().handshake()
    for number in range(5):
        talk.to_client(seq=1 + 3 * number, payload=b"abc", id=number)
    talk.to_server()
    talk.outside[2], talk.outside[3] = talk.outside[3], talk.outside[2]
    result = check(talk)
    assert (result.status, result.counts["to-client", "changed places"]) == (0, 1)


def test_all_are_wrong(check):
    """They still find each other."""
    talk = Talk().handshake()
    for number in range(200):
        talk.to_client(seq=1 + number, payload=bytes([number]), id=number, change=add("seq", 5))
    assert check(talk.to_server()).wrong == {"seq": 200}


def test_many_connections(check):
    talks = [Talk(isn_c=1000 * number, isn_b=77 * number, number=number,
                  client=("192.168.33.1", 4000 + number % 7)).handshake().exchange()
             for number in range(50)]
    result = check(*talks)
    assert (result.status, result.counts["connections", "spliced"]) == (0, 50)
    assert result.counts["to-server", "packets"] == 150


def test_connections_side_by_side(check):
    one = Talk(client=("192.168.33.1", 1111)).handshake()
    two = Talk(client=("192.168.33.1", 2222), isn_c=5, isn_b=6, isn_n=7, number=2,
               server_side_port=3333).handshake()
    both = Talk()
    for part in ("to_server", "to_client") * 5:
        for talk in (one, two):
            getattr(talk, part)(payload=part.encode())
    for side in "outside", "inside":
        packets = getattr(both, side)
        for pair in zip(getattr(one, side), getattr(two, side)):
            packets.extend(pair)
    result = check(both)
    assert (result.status, result.counts["connections", "port changed"]) == (0, 1)
    assert result.counts["to-client", "packets"] == 10


def test_an_unknown_connection(check):
    talk = Talk().handshake().exchange()
    talk.outside.append(packet(("192.168.33.9", 9), (BRIDGE, 80), tos=4))
    talk.outside.append(packet(VIP, ("192.168.33.9", 9), flags=RST))
    assert check(talk).wrong == {"connection": 2}


def test_direct_connections(check):
    """Of a client with the web server: not changed, and in no other's way."""
    talk = Talk().handshake().exchange()
    direct = [packet(CLIENT, SERVER, seq=5, flags=SYN), packet(SERVER, CLIENT, flags=SYN | ACK),
              packet(CLIENT, SERVER, seq=6, payload=b"GET"), packet(SERVER, CLIENT, seq=1)]
    for packets in talk.outside, talk.inside:
        packets += copy.deepcopy(direct)
    result = check(talk)
    assert (result.status, result.counts["connections", "direct"]) == (0, 1)
    assert result.counts["to-server", "direct packets"] == 2
    talk.outside[-1]["seq"] += 1
    assert check(talk).wrong == {"seq": 1}


# Numbers

NEAR = [U32 - 2, U32 - 1, 0, 1, 2**31 - 1, 2**31]


@pytest.mark.parametrize("number", range(40))
def test_numbers_wrap_around(check, number):
    """Sequence numbers and timestamps, on all sides, within the transfer."""
    choose = random.Random(number)
    talk = Talk(**{name: choose.choice(NEAR) - choose.choice([0, 0, 3000])
                   for name in ("isn_c", "isn_b", "isn_n", "ts_c", "ts_b", "ts_n")})
    talk.isn_c %= U32
    talk.isn_n %= U32
    talk.handshake()
    for step in range(6):
        talk.to_server(seq=1 + 1000 * step, ack=1 + 1000 * step, payload=bytes(1000), tick=step,
                       id=step, edges=(1000 * step + 2000, 1000 * step + 5000))
        talk.to_client(seq=1 + 1000 * step, ack=1001 + 1000 * step, payload=bytes(1000), tick=step,
                       id=step, edges=(1000 * step + 3000, 1000 * step + 4000, 8000, 9000))
    result = check(talk)
    assert (result.status, result.wrong) == (0, {})
    assert result.counts["to-server", "SACK edges"] == 12
    assert result.counts["to-client", "SACK edges"] == 24


def told(window, shift, to):
    size = window * 2**shift
    return min(size // 2**to, 65535) if size < 1460 or size >= 2**to else 1


@pytest.mark.parametrize("server", [None, 0, 2, 7, 10, 14])
@pytest.mark.parametrize("balancer", [0, 2, 7, 10, 14])
def test_window_scales(check, balancer, server):
    windows = [0, 1, 2, 127, 128, 1023, 4095, 4096, 16383, 16384, 32767, 65534, 65535]
    # A server that refuses scales takes the client's window for bytes.
    client_told = 5 if server is not None else 0

    def talk():
        talk = Talk(scales=(5, balancer, server)).handshake()
        for number, window in enumerate(windows):
            talk.to_client(window=(window, told(window, server or 0, balancer)), id=number)
            talk.to_server(window=(window, told(window, 5, client_told)), id=number)
        return talk

    result = check(talk())
    assert (result.status, result.wrong) == (0, {})
    same = (server or 0) == balancer
    assert result.counts["to-client", "window rescaled"] == (0 if same else len(windows))
    assert bool(result.counts["to-client", "window clamped or rounded"]) == (not same)
    wrong = talk()
    wrong.outside[-4]["window"] ^= 1
    wrong.inside[-1]["window"] ^= 1
    assert set(check(wrong).wrong) == {"window"}


def test_without_window_scaling(check):
    """What the record says of scales is nothing then."""
    talk = Talk(options=SACK | TIMESTAMPS, scales=(5, 9, 3)).handshake()
    talk.to_client(window=(40000, 40000)).to_server(window=(30000, 30000))
    result = check(talk)
    assert (result.status, result.counts["to-client", "window rescaled"]) == (0, 0)


def test_without_timestamps(check):
    talk = Talk(options=WSCALE | SACK).handshake().exchange()
    # Somebody uses them nevertheless: they are none of the bridge's business.
    talk.to_server(seq=20, others=[NOP, NOP, timestamps(5, 6)])
    result = check(talk)
    assert (result.status, result.counts["to-server", "TSval"]) == (0, 1)
    talk.inside[-1]["options"][2] = timestamps(5, 7)
    assert check(talk).wrong == {"TSecr": 1}


SACKS = {
    "one": ((3000, 4000), 0),
    "three": ((3000, 4000, 6000, 7000, 9000, 9001), 0),
    "dsack_below_the_acknowledgement": ((100, 200), 1),
    "dsack_below_and_a_hole": ((100, 200, 5000, 6000), 1),
    "dsack_within_the_second_block": ((5100, 5200, 5000, 6000), 1),
    "dsack_equal_to_the_second_block": ((5000, 6000, 5000, 6000), 1),
}


@pytest.mark.parametrize("shape", SACKS)
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
@pytest.mark.parametrize("base", [7000, U32 - 3500])
def test_sack_shapes(check, base, direction, shape):
    edges, dsacks = SACKS[shape]

    def talk():
        talk = Talk(isn_c=base, isn_b=base + 17, isn_n=(base + 99) % U32)
        talk.handshake().to_server()
        getattr(talk, direction)(ack=1000, edges=edges)
        return talk.exchange()

    result = check(talk())
    name = direction.replace("_", "-")
    assert (result.status, result.wrong) == (0, {})
    assert result.counts[name, "SACK blocks"] == len(edges) // 2
    assert result.counts[name, "D-SACK blocks"] == dsacks
    for edge in range(len(edges)):
        wrong = talk()
        sacked = wrong.inside[3] if direction == "to_server" else wrong.outside[2]
        in_option(-1, 2 + 4 * edge + 3, 1)(sacked)
        assert check(wrong).wrong == {
            f"SACK block {edge // 2 + 1} {'right' if edge % 2 else 'left'} edge": 1}


def test_without_ack_nothing_is_acknowledged(check):
    """Neither ack nor TSecr nor SACK mean anything then, and are left alone."""
    talk = Talk().handshake().exchange()
    talk.to_server(seq=20, flags=RST)
    assert check(talk).status == 0
    talk.inside[-1]["ack"] = 1
    assert check(talk).wrong == {"ack": 1}


@pytest.mark.parametrize("options", [
    b"\x08\x0a\0\0\0\1\0\0\0\2\x09\0", b"\x08\x08\0\0\0\1\0\0", b"\x05\x06\0\0\0\1\0\0",
    b"\0\x08\x0a\0\0\0\1\0\0\0\2\0", b"\x01\x01\x01\xfd", b"\x1e\x01\0\0"], ids=bytes.hex)
def test_malformed_options(check, options):
    """What Linux reads of them is translated, the rest stays."""
    talk = Talk(options=WSCALE | SACK).handshake().to_server(others=[options])
    result = check(talk)
    assert (result.status, result.wrong) == (0, {})
    talk.inside[-1]["options"] = [options[:-1] + b"\x77"]
    assert check(talk).status == 1


def test_fields_that_nobody_may_touch(check):
    """ECN marks, urgent pointers and IDs of all kinds pass."""
    talk = Talk().handshake().exchange()
    for ecn in range(4):
        talk.to_server(seq=20, ecn=ecn, urgent=ecn, id=65535 - ecn, flags=ACK | 0x20 | 0x40 | 0x80)
        talk.to_client(seq=24, tos=0x28 | ecn, urgent=9, id=65535 - ecn, flags=ACK | 0x1c0)
    result = check(talk)
    assert (result.status, result.counts["to-server", "ecn"]) == (0, 7)


# Handshakes

@pytest.mark.parametrize("name,change", [
    ("window", add("window", 1)), ("dscp", put("tos", 4)), ("ttl", add("ttl", -1)),
    ("option order", drop_option), ("option 3", in_option(-1, 2, 1)), ("TSval", in_option(2, 5)),
    ("payload", put("payload", b"record"))])
def test_the_syn_is_wrong(check, name, change):
    talk = Talk().handshake().exchange()
    change(talk.inside[0])
    # What it says of scales is not what the client was promised.
    assert set(check(talk).wrong) <= {name, "length", "data offset"}
    assert check(talk).wrong[name] == 1


def test_the_syn_has_another_number(check):
    talk = Talk().handshake().exchange()
    talk.inside[0]["seq"] += 1
    assert check(talk).wrong["handshake"] > 0


def test_the_record_is_wrong(check):
    talk = Talk(told_isn_b=2001).handshake().exchange()
    assert check(talk).wrong["isn_b of the record"] == 1
    talk = Talk(told_ts_b=60_001).handshake().exchange()
    assert check(talk).wrong["ts_b of the record"] == 1


def test_handshakes_repeated(check):
    talk = Talk()
    talk.record()
    talk.record()
    talk.syn()
    talk.syn()
    talk.record()
    talk.syn_ack()
    talk.syn_ack()
    talk.exchange()
    talk.syn_ack()
    result = check(talk)
    assert (result.status, result.counts["excused inside", "SYN-ACK"]) == (0, 3)
    assert (result.counts["handshakes", "record"], result.counts["handshakes", "SYN"]) == (3, 2)
    for _ in range(2):
        talk.syn()
    assert check(talk).wrong == {"counterpart": 1}


def test_a_syn_of_the_bridge(check):
    """Without options, behind the SYN-ACK: not before it, and not that of another connection."""
    talk = Talk().handshake()
    talk.inside.append(packet(CLIENT, SERVER, seq=talk.isn_c, flags=SYN))
    talk.syn_ack()
    result = check(talk.exchange())
    assert (result.status, result.counts["excused inside", "SYN of the bridge's own"]) == (0, 1)
    talk.inside.insert(0, talk.inside.pop(2))
    assert check(talk).status == 1


def test_a_syn_ack_that_is_not_swallowed(check):
    talk = Talk().handshake().exchange()
    talk.outside.append(packet(VIP, CLIENT, flags=SYN | ACK))
    assert check(talk).wrong == {"counterpart": 1}


def reset(seq, **fields):
    return packet(CLIENT, SERVER, seq=seq, flags=RST, **fields)


def test_offers_that_come_to_nothing(check):
    good = Talk(number=9, client=("192.168.33.1", 999)).handshake().exchange()
    refused = Talk()
    refused.record()
    refused.syn()
    refused.inside.append(packet(SERVER, CLIENT, ack=1001, flags=RST | ACK))
    aborted = Talk(number=2, isn_c=3000).handshake()
    aborted.record(ABORT)
    aborted.inside.append(reset(3001))
    result = check(good, refused, aborted)
    assert (result.status, result.counts["connections", "not taken"]) == (0, 2)
    assert result.counts["excused inside", "refusal"] == 1
    assert result.counts["excused inside", "reset of an offer that was taken back"] == 1
    aborted.inside[-1]["seq"] += 1
    assert check(good, refused, aborted).wrong == {"counterpart": 1}


def test_an_older_connection_answers(check):
    talk = Talk()
    talk.record()
    talk.syn()
    talk.inside.append(packet(SERVER, CLIENT, seq=9, ack=4711))
    talk.inside.append(reset(4711))
    talk.record()
    talk.syn()
    talk.syn_ack()
    result = check(talk.exchange())
    assert result.status == 0
    assert result.counts["excused inside", "answer for an older connection"] == 1
    assert result.counts["excused inside", "reset of an older connection"] == 1
    talk.inside[2]["seq"] += 1
    assert check(talk).wrong == {"counterpart": 1}


def test_a_port_is_used_again(check):
    one = Talk().handshake().exchange()
    two = Talk(isn_c=5000, isn_b=6000, isn_n=7000, ts_c=1, ts_b=2, ts_n=3, number=2)
    result = check(one, two.handshake().exchange())
    assert (result.status, result.counts["connections", "spliced"]) == (0, 2)


def test_a_syn_on_a_live_connection(check):
    talk = Talk().handshake().to_server()
    talk.number = 77
    talk.record(ASK, isn=123456)
    talk.syn(isn=123456)
    talk.to_client(flags=ACK)
    result = check(talk)
    assert (result.status, result.counts["handshakes", "SYN"]) == (0, 2)


def test_no_syn_ack(check):
    talk = Talk().handshake().exchange()
    del talk.inside[1]
    assert check(talk).wrong["handshake"] > 0
