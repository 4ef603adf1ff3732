# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself, which other people's programs rely on."""

import hashlib
import os
import pathlib
import re
import signal
import subprocess

import pytest

from conftest import DAEMONS, FILES, HOSTS, SERVERS, TOP, Lab, sha256_of, wait_until

pytestmark = [pytest.mark.plain, pytest.mark.once]


def namespaces(lab):
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in names.stdout.splitlines()
            if line.startswith(f"l3dsr-{lab.name}-")]


def pids(lab):
    """All processes in the namespaces of a lab."""
    found = []
    for name in namespaces(lab):
        out = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True,
                             check=True)
        found += [int(pid) for pid in out.stdout.split()]
    return found


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def assert_gone(lab, before):
    assert namespaces(lab) == []
    assert not lab.state.exists()
    assert [pid for pid in before if alive(pid)] == []


@pytest.mark.parametrize("backend", SERVERS)
def test_client_reaches_web_server_directly(lab, backend):
    answer = lab.curl(f"http://{SERVERS[backend]}/page/direct")
    assert (answer.status, answer.backend) == (200, backend)
    assert answer.seen == answer.local
    wait_until(lambda: f'{answer.local} "GET /page/direct HTTP/1.1" 200' in lab.web_log(backend))


@pytest.mark.parametrize("count", [1, 4])
def test_backends(own_lab, count):
    """Less or more than two: hosts, bridges and web servers, and the balancer knows them all."""
    own_lab.up("--backends", count)
    assert len(own_lab.daemons) == 1 + count
    for number in range(1, count + 1):
        assert own_lab.curl(f"http://192.168.33.{29 + number}/whoami").backend == f"backend{number}"
        assert own_lab.pid(f"bridge{number}")
    assert {own_lab.curl(f"/page/{page}").backend for page in range(60)} == \
        {f"backend{number}" for number in range(1, count + 1)}
    before = pids(own_lab)
    own_lab.down()
    assert_gone(own_lab, before)


@pytest.mark.parametrize("arguments", [("--backends", "0"), ("--backends", "5"), ("--backends",)])
def test_no_such_number_of_backends(own_lab, arguments):
    assert own_lab.up(*arguments, check=False).returncode == 2
    assert not own_lab.state.exists()


def test_several_client_addresses(lab):
    for number in (101, 120):
        address = f"192.168.33.{number}"
        answer = lab.curl(f"http://{SERVERS['backend1']}/whoami", "--interface", address)
        assert answer.seen.split(":")[0] == address


def test_files_have_the_hashes_that_are_told(lab):
    assert lab.sha256(f"http://{SERVERS['backend1']}/files/1M.bin") == sha256_of("1M.bin")
    assert hashlib.sha256((FILES / "1M.bin").read_bytes()).hexdigest() == sha256_of("1M.bin")


@pytest.mark.parametrize("how", [["-T", FILES / "1M.bin", "/upload/up.bin"],
                                 ["--data-binary", f"@{FILES}/1M.bin", "/post/up.bin"]])
def test_uploads_are_kept(lab, how):
    *arguments, path = how
    answer = lab.curl(f"http://{SERVERS['backend2']}{path}", *arguments)
    stored = lab.state / "backend2" / "upload" / "up.bin"
    assert answer.status == 201
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == sha256_of("1M.bin")
    stored.unlink()


@pytest.mark.parametrize("host", HOSTS)
def test_exec_passes_input_output_and_status(lab, host):
    done = lab.run("exec", host, "sh", "-c", "cat; echo err >&2; exit 7", input="in\n", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "err\n")


def test_exec_refuses_what_is_no_host(lab):
    assert lab.run("exec", "switch", "true", check=False).returncode == 1


def test_no_way_out(lab):
    for host in HOSTS:
        assert "default" not in lab.exec(host, "ip", "route").stdout
        links = lab.exec(host, "ip", "-br", "link").stdout.splitlines()
        assert [line.split("@")[0].split()[0] for line in links] == ["lo", "eth0"]


def test_second_up_is_refused_and_harms_nothing(lab):
    assert lab.up(check=False).returncode == 1
    assert lab.curl(f"http://{SERVERS['backend1']}/whoami").status == 200


def test_counters_are_numbers(lab):
    for name in DAEMONS:
        assert lab.counters(name)


def test_down_leaves_nothing(own_lab):
    own_lab.up("--offload", "off")
    before = pids(own_lab)
    assert len(before) >= len(DAEMONS) + 2
    own_lab.exec("client", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
    before += pids(own_lab)
    own_lab.down()
    assert_gone(own_lab, before)
    own_lab.down()


def test_down_after_up_was_killed(own_lab):
    """With SIGKILL as soon as there is a namespace, so that it cannot tidy up."""
    up = subprocess.Popen([TOP / "lab" / "up"], env=own_lab.environ, start_new_session=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: namespaces(own_lab))
    os.killpg(up.pid, signal.SIGKILL)
    up.wait()
    before = pids(own_lab)
    own_lab.down()
    assert_gone(own_lab, before)
    own_lab.up()
    assert own_lab.curl(f"http://{SERVERS['backend1']}/whoami").status == 200


def test_down_after_everything_was_broken(own_lab):
    own_lab.up()
    before = pids(own_lab)
    own_lab.exec("balancer", "ip", "link", "delete", "eth0")
    own_lab.exec("backend1", "nft", "flush", "ruleset")
    for name in ("client", "backend2"):
        subprocess.run(["ip", "netns", "delete", f"l3dsr-{own_lab.name}-{name}"], check=True)
    for file in own_lab.state.glob("*.pid"):
        if not file.name.startswith("nginx"):
            file.unlink()
    own_lab.down()
    assert_gone(own_lab, before)


def test_failing_up_tells_why_and_leaves_nothing(own_lab, tmp_path):
    config = tmp_path / "balancer-bad.conf"
    config.write_text("this is FAIL no configuration\n")
    done = own_lab.up(config, check=False)
    assert done.returncode != 0
    assert "balancer: ended before it was ready: exit 1" in done.stderr
    assert_gone(own_lab, [])


def test_given_configuration_is_used_with_the_key_of_the_lab(lab, own_lab, tmp_path):
    text = lab.config("bridge1", "idle_s = 60", "idle_s = 61")
    with_key = tmp_path / "bridge1-other.conf"
    with_key.write_text(text)
    without_key = tmp_path / "balancer2.conf"
    without_key.write_text("".join(line for line in lab.config("balancer").splitlines(True)
                                   if not line.startswith("key_file")))
    own_lab.up("--no-web", with_key, without_key)
    assert own_lab.config("bridge1") == text.replace(str(lab.state), str(own_lab.state))
    assert f'key_file = "{own_lab.state}/handoff.key";' in own_lab.config("balancer")
    assert "idle_s = 60" in own_lab.config("bridge2")


def test_without_web_servers(own_lab):
    own_lab.up("--no-web")
    script = "import socket; s = socket.create_server(('192.168.33.30', 80)); " \
             "c, a = s.accept(); c.recv(9999); c.send(b'HTTP/1.0 200 OK\\r\\n\\r\\nmine')"
    server = own_lab.popen("backend1", "/usr/bin/python3", "-c", script)
    answer = own_lab.curl("http://192.168.33.30/", "--retry", "5", "--retry-connrefused")
    assert answer.text == "mine"
    assert server.wait(timeout=5) == 0


@pytest.mark.parametrize("name", DAEMONS)
def test_daemon_verbs(own_lab, name):
    own_lab.up("--no-web")
    first = own_lab.daemon("pids", name)
    assert len(first) == 1
    own_lab.daemon("kill", name)
    assert not alive(first[0])
    assert own_lab.daemon("pids", name) == []
    own_lab.daemon("start", name)
    second = own_lab.daemon("pids", name)
    assert len(second) == 1 and second != first
    assert own_lab.daemon("start", name, check=False).returncode == 1
    own_lab.daemon("stop", name)
    assert own_lab.daemon("pids", name) == []


def test_loss_is_of_packets_of_a_wire(own_lab):
    """With offloads on: the near end of the cable cuts them up, so that one drop is one packet."""
    own_lab.up()
    own_lab.impair("loss", "2")
    digest = own_lab.sha256(f"http://{SERVERS['backend1']}/files/100M.bin")
    assert digest == sha256_of("100M.bin")

    def nft_of_switch(*command):
        return subprocess.run(["ip", "netns", "exec", f"l3dsr-{own_lab.name}-switch", "nft", *command],
                              capture_output=True, text=True, check=True).stdout

    counter = nft_of_switch("list", "counter", "bridge", "impair", "to_client")
    packets, octets = (int(word) for word in counter.split() if word.isdigit())
    assert octets / packets <= 1500
    # 100 MB are 69,000 packets; five standard deviations of 2 % are 0.27 %.
    assert 0.0173 < packets / 69100 < 0.0235
    own_lab.impair("off")
    # What retransmits a kernel on a busy machine is not loss alone.
    assert nft_of_switch("list", "ruleset") == ""


def test_network_emulator(own_lab):
    """Of a kernel that has none it is said so, and nothing is changed."""
    own_lab.up()
    done = own_lab.run("impair", "netem", "from_client", "loss", "20", check=False)
    if done.returncode:
        assert "this kernel cannot do that; lab/impair relay can" in done.stderr
    for number in range(10):
        assert own_lab.curl(f"http://{SERVERS['backend1']}/page/{number}").status == 200
    lost = own_lab.impair("off").stdout
    assert re.fullmatch("" if done.returncode else r"from_client lost [1-9]\d*\n", lost)


# lab/demo

def masked(text):
    """Without what differs between two runs."""
    return re.sub(" +", " ", re.sub(r"\d+", "N", re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)))


class Demo(Lab):
    """lab/demo as a process of its own, in a lab that has its number."""

    def __init__(self, output):
        super().__init__()
        # A shell does not trap a signal that it was told to ignore, as those in the background are.
        self.process = subprocess.Popen(
            [TOP / "lab" / "demo"], stdout=output, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.name = f"demo{self.process.pid}"
        self.state = pathlib.Path(f"/run/l3dsr-lab-{self.name}")
        self.environ["L3DSR_LAB"] = self.name

    def asked_for(self, path):
        """How many requests the web servers have logged."""
        return sum(log.read_text().count(f'"GET {path}')
                   for log in self.state.glob("backend*/access.log"))

    def is_up(self):
        """Or does not come up."""
        return namespaces(self) or self.process.poll() is not None


@pytest.fixture
def demo(tmp_path):
    with open(tmp_path / "printed", "w", encoding="ascii") as output:
        demo = Demo(output)
    yield demo
    if demo.process.poll() is None:
        os.killpg(demo.process.pid, signal.SIGKILL)
        demo.process.wait()
    demo.down()


def test_demo(demo, tmp_path):
    """It does what README.md shows, and leaves nothing."""
    # It builds, which takes a while where it was not done before.
    assert demo.process.wait(timeout=300) == 0
    printed = (tmp_path / "printed").read_text()
    assert len(re.findall("^  yes  ", printed, re.M)) == 7
    assert "  NO   " not in printed
    original, arrived = re.findall(r"^sha256 .* ([0-9a-f]{64})$", printed, re.M)
    assert original == arrived == sha256_of("500M.bin")
    logged, = re.findall(r'^web server.* (\S+) "GET /files/500M.bin HTTP/1.1" 200 500000000$',
                         printed, re.M)
    assert f"\nclient's own socket     {logged}\n" in printed
    assert re.search(r"^balancer to bridges     [1-9]\d* packets with DSCP 1, 0 with another$",
                     printed, re.M)
    shown = (TOP / "README.md").read_text().split("What `lab/demo` prints")[1].split("```\n")[1]
    begin, end = masked(shown).split(" [...]\n")
    assert masked(printed).lstrip("\n").startswith(begin)
    assert masked(printed).endswith(end)
    assert_gone(demo, [])


@pytest.mark.parametrize("when", ["up", "fetch"])
def test_demo_interrupted(demo, when):
    """By Ctrl-C, which all of its processes get: while the lab comes up, or in the large file."""
    wait_until(demo.is_up, timeout=300)
    if when == "fetch":
        wait_until(lambda: demo.asked_for("/page/") == 9, timeout=30, what="the last page")
    before = pids(demo)
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(timeout=20) == 130
    assert_gone(demo, before)
