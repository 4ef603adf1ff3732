# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS through the balancer, which reads the ClientHello and ends nothing; and protocols that it does not
read at all."""

import contextlib
import re
import socket
import ssl
import subprocess

import pytest

import crafted
from conftest import SERVERS, VIP, wait_until

pytestmark = pytest.mark.once

TLS = """
	{
		name = "secure"; address = "192.168.33.10"; port = 443; index = 1; protocol = "tls";
		pool = "caches";
		routes = (
			{ host = "first.example"; pool = "first"; },
			{ host = "*.second.example"; pool = "second"; },
			{ alpn = "only-second"; pool = "second"; }
		);
	},
	{
		name = "any"; address = "192.168.33.10"; port = 1935; index = 1; protocol = "tcp";
		pool = "caches";
	},
"""
POOLS = """
	{ name = "first"; backends = ( { name = "cache1"; address = "192.168.33.20"; } ); },
	{ name = "second"; backends = ( { name = "cache2"; address = "192.168.33.21"; } ); },
"""
# Says who it is, whom it was asked for, and how.
NGINX = """
user root;
pid %(directory)s/tls.pid;
error_log %(directory)s/tls-error.log;
worker_processes 1;
events {}
http {
	access_log off;
	client_body_temp_path %(directory)s/body;
	server {
		listen %(address)s:443 ssl http2;
		ssl_certificate %(certificate)s;
		ssl_certificate_key %(key)s;
		ssl_protocols TLSv1.2 TLSv1.3;
		ssl_session_cache shared:tls:1m;
		return 200 "%(backend)s $ssl_server_name $ssl_protocol $ssl_session_reused $remote_addr:$remote_port $server_protocol\\n";
	}
}
"""


def configurations():
    texts = {}
    text = crafted.replaced(crafted.template("balancer"), "pools = (", f"pools = ({POOLS}")
    texts["balancer"] = crafted.replaced(text, "services = (", f"services = ({TLS}")
    for name in ("bridge1", "bridge2"):
        text = crafted.template(name)
        server = re.search(r'server = "(\S+)"', text).group(1)
        texts[name] = crafted.replaced(text, "services = (", "services = (" + "".join(
            f'{{ name = "{port}"; index = 1; vip = "{VIP}"; port = {port}; server = "{server}"; '
            f"server_port = {port}; }}," for port in (443, 1935)))
    return texts


@contextlib.contextmanager
def web_servers(lab, directory):
    """nginx with TLS on each backend."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=example",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with contextlib.ExitStack() as stack:
        for backend, address in SERVERS.items():
            own = directory / backend
            own.mkdir()
            conf = own / "nginx.conf"
            conf.write_text(NGINX % {"directory": own, "address": address, "backend": backend,
                                     "certificate": certificate, "key": key})
            server = lab.popen(backend, "nginx", "-p", own, "-e", own / "error.log", "-c", conf,
                               "-g", "daemon off;")
            stack.callback(server.wait)
            stack.callback(server.terminate)
            wait_until(lambda own=own: (own / "tls.pid").exists(), what="nginx")
        yield


@pytest.fixture(scope="module")
def tls_lab(data_plane, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    with crafted.running(directory, **configurations()) as lab, web_servers(lab, directory):
        yield lab


def curl(lab, name, *options):
    """What the web server has said: backend, server name, version, reused, client, protocol."""
    answer = lab.exec("client", "curl", "-sS", "-k", "--fail", "--max-time", 10, "--connect-to",
                      f"{name}:443:{VIP}:443", *options, f"https://{name}/", "-w",
                      "%{local_ip}:%{local_port}").stdout
    said, client = answer.rsplit("\n", 1)
    assert said.split()[4] == client
    return said.split()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_server_names(tls_lab, version, http):
    options = (http, f"--tlsv{version}", "--tls-max", version)
    for name, backend in (("first.example", "backend1"), ("a.second.example", "backend2"),
                          ("a.b.second.example", "backend2")):
        said = curl(tls_lab, name, *options)
        assert said[:3] == [backend, name, f"TLSv{version}"]
        assert said[5] == ("HTTP/2.0" if http == "--http2" else "HTTP/1.1")
    # Names are shared out, and each has its backend.
    names = [f"name-{number}.example" for number in range(30)]
    first = [curl(tls_lab, name, *options)[0] for name in names[:10]]
    assert first == [curl(tls_lab, name, *options)[0] for name in names[:10]]
    if version == "1.3":
        assert {curl(tls_lab, name, *options)[0] for name in names} == set(SERVERS)


def s_client(lab, *options, text="GET / HTTP/1.0\r\n\r\n"):
    return lab.exec("client", "openssl", "s_client", "-connect", f"{VIP}:443", "-ign_eof", *options,
                    input=text, timeout=20).stdout


def test_openssl(tls_lab):
    """With a name in capital letters, without a name, and by the protocol that it offers."""
    assert "\nbackend1 FIRST.example " in s_client(tls_lab, "-servername", "FIRST.example")
    before = tls_lab.counters("balancer")
    assert re.search(r"\nbackend[12]  ", s_client(tls_lab, "-noservername"))
    crafted.counted(tls_lab, "balancer", before, requests_nameless=1, fallback_source=1)
    assert "\nbackend2 x.example " in s_client(tls_lab, "-servername", "x.example", "-alpn",
                                               "http/1.1,only-second")


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_resumption(tls_lab, tmp_path, version):
    """The second connection meets the web server that knows the session."""
    session = tmp_path / "session"
    options = ("-servername", "resumed.example", f"-{version}")
    first = s_client(tls_lab, *options, "-sess_out", session)
    second = s_client(tls_lab, *options, "-sess_in", session)
    assert re.search(r"\nbackend[12] resumed\.example TLSv1\.\d \. ", first)
    assert re.search(r"\nbackend[12] resumed\.example TLSv1\.\d r ", second)


class Hello:
    """A TLS client whose bytes go through the test's own hands."""

    def __init__(self, name, alpn=None):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def step(self, call, *arguments):
        """One call; None if it waits for the peer."""
        try:
            return call(*arguments)
        except ssl.SSLWantReadError:
            return None

    def finish(self, sock):
        """The rest of the handshake, and a request."""
        while self.step(lambda: self.tls.do_handshake() or True) is None:
            sock.sendall(self.outgoing.read())
            self.incoming.write(sock.recv(65536))
        self.tls.write(b"GET / HTTP/1.0\r\n\r\n")
        sock.sendall(self.outgoing.read())
        while (data := self.step(self.tls.read, 65536)) is None:
            self.incoming.write(sock.recv(65536))
        return data


def connect(lab, port):
    with crafted.inside(lab, "client"):
        sock = socket.socket()
    sock.settimeout(10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect((VIP, port))
    return sock


def in_records(data, size):
    """One record of a handshake as many (RFC 8446, 5.1)."""
    body = data[5:]
    pieces = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("pieces, record", [(2, 0), (20, 0), (3, 300), (40, 7)])
def test_a_hello_in_pieces(tls_lab, pieces, record):
    """Larger than a segment, as with keys for post-quantum exchange; in segments and records of any size."""
    hello = Hello("first.example", alpn=[f"filler-{number:03}-{'x' * 200}" for number in range(2)] +
                  ["http/1.1"] + [f"p{number:03}" for number in range(300)])
    hello.step(hello.tls.do_handshake)
    data = hello.outgoing.read()
    assert len(data) > 1700
    if record:
        data = in_records(data, record)
    size = len(data) // pieces + 1
    with connect(tls_lab, 443) as sock:
        for at in range(0, len(data), size):
            before = tls_lab.counters("balancer")
            sock.sendall(data[at:at + size])
            if at + size < len(data):
                crafted.counted(tls_lab, "balancer", before, requests=0)
        assert b"backend1 first.example" in hello.finish(sock)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\x01\x03\x01" + bytes(43),
                                  b"\x15\x03\x01\x00\x02\x02\x28"], ids=["http", "ssl2", "alert"])
def test_not_tls(tls_lab, data):
    """The fallback, at once; the web server says what it thinks of it."""
    before = tls_lab.counters("balancer")
    with connect(tls_lab, 443) as sock:
        sock.sendall(data)
        sock.recv(4096)
    crafted.counted(tls_lab, "balancer", before, requests_not_recognised=1, fallback_source=1)


def accepted(listeners):
    """The first connection that one of them has, or None."""
    for listener in listeners:
        with contextlib.suppress(BlockingIOError):
            sock, _ = listener.accept()
            sock.settimeout(10)
            return sock
    return None


def test_tcp(tls_lab):
    """Handed over with the first data, whatever it is."""
    with contextlib.ExitStack() as stack:
        listeners = []
        for backend, address in SERVERS.items():
            with crafted.inside(tls_lab, backend):
                listeners.append(stack.enter_context(socket.create_server((address, 1935))))
            listeners[-1].setblocking(False)
        client = stack.enter_context(connect(tls_lab, 1935))
        client.sendall(b"\x03")
        server = stack.enter_context(wait_until(lambda: accepted(listeners), what="a connection"))
        assert server.recv(10) == b"\x03"
        server.sendall(b"\x00answer")
        assert client.recv(10) == b"\x00answer"
        client.sendall(b"more")
        assert server.recv(10) == b"more"
