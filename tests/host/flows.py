# SPDX-License-Identifier: GPL-2.0-or-later
"""flows.py - connections that are alive as long as they are asked: lines in, a line out for each.

    page    ask for a page on a connection that is kept
    more    read on in a download
    finish  read it to its end, and print its sha256

Whatever goes wrong on a connection ends the program.
"""

import hashlib
import http.client
import sys

ADDRESS = "192.168.33.10"
PIECE = 1_000_000


def connect():
    connection = http.client.HTTPConnection(ADDRESS, timeout=60)
    connection.connect()
    # The same connection, or none.
    connection.auto_open = 0
    return connection


def main():
    kept, loading = connect(), connect()
    loading.request("GET", "/files/100M.bin")
    download = loading.getresponse()
    digest = hashlib.sha256()
    for line in sys.stdin:
        word = line.strip()
        if word == "page":
            kept.request("GET", "/page/kept")
            answer = kept.getresponse()
            answer.read()
            print(answer.status, flush=True)
        elif word == "more":
            piece = download.read(PIECE)
            digest.update(piece)
            print(len(piece), flush=True)
        elif word == "finish":
            while piece := download.read(PIECE):
                digest.update(piece)
            print(digest.hexdigest(), flush=True)


main()
