# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets held against their counterparts: who belongs to whom, what differs, what was counted."""

import collections
import ipaddress

from capture import (ACK, OPTION_SACK, OPTION_TIMESTAMPS, RIGHT, SYN, UNFINISHED, WRONG,
                     find_options, option_list, valid_length)
from splices import WORD, field_names, rescale, timestamps_of

NAMES = field_names()
ADDRESSES = {"source", "destination"}
TO_SERVER, TO_CLIENT = 0, 1
DIRECTIONS = ("to-server", "to-client")

# A packet without an exact counterpart is held against the leftovers near it. One that has this
# many fields as they have to be is meant to be the counterpart.
NEAR = 64
ALIKE = len(NAMES) * 2 // 3


class Report:
    """Violations, printed as they are found, and what was looked at."""

    def __init__(self, write=print):
        self.write = write
        self.violations = 0
        self.counts = collections.defaultdict(collections.Counter)

    def count(self, what, field, number=1):
        self.counts[what][field] += number

    def violation(self, side, seen, connection, field, expected, found, other=""):
        self.violations += 1
        self.write(f"violation: {side} #{seen.number} {seen.time:.6f} [{connection}] {field}: "
                   f"expected {expected}, found {found}{other}")

    def checksums(self, side, what, seen, connection):
        """Of every packet by itself."""
        for name, state in (("IP checksum", seen.ip_checksum), ("TCP checksum", seen.tcp_checksum)):
            self.count(f"{side} {what}", f"{name} {state}")
            if state == WRONG:
                self.violation(side, seen, connection, name, RIGHT, WRONG)


def show(name, value):
    if name in ADDRESSES:
        return str(ipaddress.IPv4Address(value))
    if isinstance(value, bytes):
        return f"{len(value)} bytes {value[:24].hex()}{'...' if len(value) > 24 else ''}"
    if name in ("flags", "fragment"):
        return f"{value:#05x}"
    return str(value)


def first_difference(expected, found):
    """Where two byte strings begin to differ, and what they hold from there on."""
    at = next((at for at, (one, two) in enumerate(zip(expected, found)) if one != two),
              min(len(expected), len(found)))
    return at, expected[at:], found[at:]


def option_differences(expected, found):
    """Yield (name, expected, found) for the options of two segments."""
    wanted, got = option_list(expected), option_list(found)
    if [(kind, length) for kind, _, length in wanted] != \
            [(kind, length) for kind, _, length in got]:
        yield "option order", expected.hex() or "none", found.hex() or "none"
        return
    for kind, at, length in wanted:
        one, two = expected[at:at + length], found[at:at + length]
        if one == two:
            continue
        if kind == OPTION_TIMESTAMPS and valid_length(kind, length):
            names = ["TSval", "TSecr"]
        elif kind == OPTION_SACK and valid_length(kind, length):
            names = [f"SACK block {edge // 2 + 1} {'right' if edge & 1 else 'left'} edge"
                     for edge in range((length - 2) // 4)]
        else:
            yield f"option {'behind the end' if kind is None else kind}", one.hex(), two.hex()
            continue
        for number, name in enumerate(names):
            edges = [int.from_bytes(option[2 + 4 * number:6 + 4 * number], "big")
                     for option in (one, two)]
            if edges[0] != edges[1]:
                yield name, *edges


def differences(seen, expected, found):
    """Yield (name, expected, found) of each field of a counterpart that is not as it has to be."""
    if found.tcp_checksum == UNFINISHED and seen.tcp_checksum == RIGHT:
        yield "TCP checksum", RIGHT, UNFINISHED
    if expected == found.segment:
        return
    for name, one, two in zip(NAMES, expected, found.segment):
        if one == two:
            continue
        if name == "options":
            yield from option_differences(one, two)
        elif name == "payload" and one and two:
            at, one, two = first_difference(one, two)
            yield f"payload from byte {at}", show(name, one), show(name, two)
        else:
            yield name, show(name, one), show(name, two)


def pair(arrived, left, translate):
    """Find the counterparts. Returns (pairs, arrived without, left without).

    A pair is (seen, expected, counterpart). First those that are exactly as they have to be, equal
    ones in their order; then of the rest those that are most alike.
    """
    waiting = collections.defaultdict(collections.deque)
    expected = []
    for number, seen in enumerate(arrived):
        expected.append(translate(seen.segment))
        waiting[expected[-1]].append(number)
    pairs, lonely = [], []
    for seen in left:
        numbers = waiting.get(seen.segment)
        if numbers:
            number = numbers.popleft()
            pairs.append((arrived[number], expected[number], seen))
        else:
            lonely.append(seen)
    missing = []
    for number in sorted(number for numbers in waiting.values() for number in numbers):
        best = max(lonely[:NEAR], default=None,
                   key=lambda seen: alike(expected[number], seen.segment))
        if best is None or alike(expected[number], best.segment) < ALIKE:
            missing.append(arrived[number])
        else:
            lonely.remove(best)
            pairs.append((arrived[number], expected[number], best))
    return pairs, missing, lonely


def alike(expected, found):
    return sum(one == two for one, two in zip(expected, found))


def count_pair(report, direction_number, connection, arrived, found):
    """What this pair was a test of, beyond the fields that every packet has."""
    direction = DIRECTIONS[direction_number]
    timestamps, _, edges = find_options(found.options)
    kinds = option_list(found.options)
    rescaled, cut = window_change(connection, direction_number, arrived)
    report.count(direction, "window rescaled", rescaled)
    report.count(direction, "window clamped or rounded", cut)
    if timestamps is not None:
        report.count(direction, "TSval")
        report.count(direction, "TSecr")
    if edges:
        report.count(direction, "SACK blocks", edges // 2)
        report.count(direction, "SACK edges", edges)
        report.count(direction, "D-SACK blocks", is_dsack(found))
    report.count(direction, "other options",
                 sum(kind not in (OPTION_SACK, OPTION_TIMESTAMPS) for kind, _, _ in kinds))
    if connection.direct:
        report.count(direction, "direct packets")


def window_change(connection, direction, segment):
    """Was the window of a segment rescaled, and did it lose something?"""
    shift, told = connection.scales[direction]
    size = segment.window << shift
    rescaled = shift != told and not segment.flags & SYN
    return rescaled, rescaled and rescale(segment.window, shift, told) << told != size


def is_dsack(segment):
    """RFC 2883: the first block lies below the acknowledgement, or within the second one."""
    _, at, edges = find_options(segment.options)
    values = [int.from_bytes(segment.options[at + 4 * edge:at + 4 * edge + 4], "big")
              for edge in range(edges)]
    if segment.flags & ACK and 0 < (segment.ack - values[0]) % WORD < WORD // 2:
        return True
    return edges >= 4 and (values[0] - values[2]) % WORD < WORD // 2 and \
        (values[3] - values[1]) % WORD < WORD // 2


def compare_direction(report, connection, direction, arrived, left, translate):
    """Hold all packets of one direction against each other."""
    name = DIRECTIONS[direction]
    sides = ("outside", "inside") if direction == TO_SERVER else ("inside", "outside")
    for side, packets in zip(sides, (arrived, left)):
        for seen in packets:
            report.checksums(side, name, seen, connection)
    pairs, missing, extra = pair(arrived, left, translate)
    newest = 0
    for seen, expected, found in pairs:
        report.count(name, "packets")
        report.count(name, "changed places", seen.number < newest)
        newest = max(newest, seen.number)
        count_pair(report, direction, connection, seen.segment, found.segment)
        for field, one, two in differences(seen, expected, found):
            report.violation(sides[1], found, connection, field, one, two,
                             f" ({sides[0]} #{seen.number})")
    for side, other, packets in ((sides[0], sides[1], missing), (sides[1], sides[0], extra)):
        for seen in packets:
            report.violation(side, seen, connection, "counterpart", f"one packet {other}", "none")


def compare(report, connection):
    """Hold both sides of a connection against each other."""
    if not connection.direct:
        handshake(report, connection)
        if connection.isn_n is None:
            return
    to_server, to_client = connection.translators()
    compare_direction(report, connection, TO_SERVER, connection.outside[TO_SERVER],
                      connection.inside[TO_SERVER], to_server)
    compare_direction(report, connection, TO_CLIENT, connection.inside[TO_CLIENT],
                      connection.outside[TO_CLIENT], to_client)


def handshake(report, connection):
    """Does the client's first packet acknowledge the SYN-ACK that the record told of?"""
    if connection.isn_n is None:
        for side, streams in (("outside", connection.outside), ("inside", connection.inside)):
            for seen in streams[TO_SERVER] + streams[TO_CLIENT]:
                report.violation(side, seen, connection, "handshake",
                                 "the web server's SYN-ACK before it", "none")
        return
    first = next(iter(connection.outside[TO_SERVER]), None)
    if first is None or not first.segment.flags & ACK:
        return
    checks = [("isn_b of the record", (connection.isn_b + 1) % WORD, first.segment.ack)]
    timestamps = timestamps_of(first.segment)
    if timestamps and connection.ts_delta is not None:
        checks.append(("ts_b of the record", connection.ts_b, timestamps[1]))
    for field, expected, found in checks:
        report.count("handshakes", field)
        if expected != found:
            report.violation("outside", first, connection, field, expected, found)


def compare_syns(report, connection, carriers, syns):
    """Each SYN inside is a record's SYN without the record; a repeated record may have none."""
    translate = connection.syn
    for seen in carriers:
        report.checksums("outside", "handshakes", seen, connection)
    for seen in syns:
        report.checksums("inside", "handshakes", seen, connection)
    pairs, _, extra = pair(carriers, syns, translate)
    for seen, expected, found in pairs:
        report.count("handshakes", "SYN")
        for field, one, two in differences(seen, expected, found):
            report.violation("inside", found, connection, field, one, two,
                             f" (outside #{seen.number})")
    for seen in extra:
        report.violation("inside", seen, connection, "counterpart", "one record outside", "none")


def summary(report):
    """Lines of "WHAT: FIELD NUMBER"."""
    for direction in DIRECTIONS:
        counts = report.counts[direction]
        for name in NAMES:
            if name != "options":
                counts[name] = counts["packets"]
    for what in sorted(report.counts):
        for field, number in sorted(report.counts[what].items()):
            report.write(f"{what}: {field} {number}")
    report.write(f"violations: {report.violations}")
