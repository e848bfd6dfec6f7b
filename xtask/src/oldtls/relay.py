"""A TLS server as old sites have it: takes TLS off connections and passes their bytes on.

Argument: JSON with port (0 = any), to (port), versions (from, to), ciphers, certificate, key, clients (authority or null).
Says "listening PORT", and "attempt" for each connection.
"""

import json
import select
import socket
import ssl
import sys
import threading
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
options = json.loads(sys.argv[1])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.set_ciphers(options["ciphers"] + "@SECLEVEL=0")
context.minimum_version, context.maximum_version = (ssl.TLSVersion[v] for v in options["versions"])
context.load_cert_chain(options["certificate"], options["key"])
if options["clients"]:
    context.load_verify_locations(options["clients"])
    context.verify_mode = ssl.CERT_REQUIRED


def serve(connection):
    try:
        with context.wrap_socket(connection, server_side=True) as near:
            with socket.create_connection(("127.0.0.1", options["to"])) as far:
                relay(near, far)
    except OSError as why:
        print("failed:", why, flush=True)


def relay(near, far):
    while True:
        ready = [near] if near.pending() else select.select([near, far], [], [])[0]
        for one in ready:
            data = one.recv(65536)
            if not data:
                return
            (far if one is near else near).sendall(data)


listener = socket.create_server(("127.0.0.1", options["port"]), backlog=64)
print("listening", listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    print("attempt", flush=True)
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
