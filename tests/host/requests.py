# SPDX-License-Identifier: GPL-2.0-or-later
"""requests.py HOST - load until somebody ends it: requests on new connections and, in turn, on one that is kept.

A line for each: "new" or "kept", the time, and the status of the answer or what went wrong instead. A kept
connection with which something went wrong is not opened again.
"""

import datetime
import http.client
import sys
import threading
import time

CLIENTS = 2
PATIENCE_S = 60
PAUSE_S = 0.1  # emulated machines have little time, and daemons that start again want some of it


def ask(kind, connection):
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        result = answer.status
    except (OSError, http.client.HTTPException) as error:
        result = repr(error)
    print(kind, datetime.datetime.now().isoformat(timespec="milliseconds"), result, flush=True)


def client(host):
    kept = http.client.HTTPConnection(host, timeout=PATIENCE_S)
    kept.connect()
    kept.auto_open = 0
    while True:
        new = http.client.HTTPConnection(host, timeout=PATIENCE_S)
        ask("new", new)
        new.close()
        ask("kept", kept)
        time.sleep(PAUSE_S)


for _ in range(CLIENTS):
    threading.Thread(target=client, args=sys.argv[1:]).start()
