"""`_page.listening`: `aqueue serve` on a loopback address, or with TLS on others; real server processes and real certificates."""

import errno
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aqueue._page.listening import CannotListen, listen
from tests.journal.writing import make_events, write

DEADLINE_S = 30.0


class Pem(NamedTuple):
    """The files of a certificate for this machine, which signs itself, and of its key."""

    certificate: Path
    key: Path

    @property
    def options(self) -> list[str]:
        """Those with which a server uses them."""
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]


def make(folder: Path, passphrase: bytes = b"") -> Pem:
    """Write a certificate and its key into a new folder."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "aqueue's tests")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = Pem(folder / "cert.pem", folder / "key.pem")
    pem.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    return pem


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Pem:
    """Return a certificate."""
    return make(tmp_path_factory.mktemp("tls") / "pem")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the journal of a run."""
    path = tmp_path_factory.mktemp("run") / "run.db"
    write(path, make_events(1, 50))
    return path


def command(*arguments: object) -> list[str]:
    """Return the command line of a server."""
    return [sys.executable, "-m", "aqueue", "serve", *map(str, arguments)]


@contextmanager
def serving(*arguments: object) -> Iterator[str]:
    """Run a server; yields the printed address."""
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "/enter?token=" in line, process.stderr and process.stderr.read()
            yield line.split()[-1]
        finally:
            process.kill()


def refusal(*arguments: object) -> str:
    """Return why a server doesn't start, on one line."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=DEADLINE_S, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def browser(address: str, pem: Pem) -> httpx.Client:
    """Return a browser of this machine that trusts the certificate."""
    trust = ssl.create_default_context(cafile=str(pem.certificate))
    return httpx.Client(base_url=address.partition("/enter")[0], verify=trust, timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def address(journal: Path, pem: Pem) -> Iterator[str]:
    """Serve the page to other machines; return the address without its token, and let no test use that up."""
    with serving(
        journal, "--host", "0.0.0.0", "--allow-host", "localhost", "--allow-host", "Runs.Example.ORG", *pem.options
    ) as printed:
        yield printed


# ---- with TLS ------------------------------------------------------------------------------------------------------


def test_other_machines_read_the_page_over_tls_with_the_printed_address(journal: Path, pem: Pem) -> None:
    """The address names what `--allow-host` says first; the cookie is sent over TLS alone, and the stream works, too."""
    with serving(journal, "--host", "0.0.0.0", "--allow-host", "localhost", *pem.options) as printed:
        assert re.match(r"https://localhost:[0-9]+/", printed)
        with browser(printed, pem) as reader:
            assert reader.get("/").status_code == 401
            cookie = reader.get(printed).headers["set-cookie"]
            assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
            assert "run.db" in reader.get("/").text
            with reader.stream("GET", "/events/now") as stream:
                assert next(stream.iter_lines()).startswith("data: {")
            used = reader.get(printed)
            assert "set-cookie" not in used.headers


def test_it_listens_on_all_addresses_with_tls_alone(address: str) -> None:
    """Plain HTTP gets nothing, not even a refusal, and so does TLS of a browser that doesn't trust the certificate."""
    port = int(address.split(":")[2].split("/", maxsplit=1)[0])
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection, suppress(ConnectionError):
        connection.sendall(f"GET {address.partition(str(port))[2]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(1_000) == b""
    with httpx.Client() as plain, pytest.raises(httpx.TransportError):
        plain.get(address.replace("https://", "http://"))
    with httpx.Client() as careful, pytest.raises(httpx.ConnectError, match="certificate"):
        careful.get(address)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "runs.example.org", "RUNS.example.org"]
)
@pytest.mark.parametrize("port", ["", ":443", ":8700"])
def test_the_names_that_are_given_are_known(address: str, pem: Pem, host: str, port: str) -> None:
    """Those of this machine, and those of `--allow-host`, with any port; a cookie is needed as always."""
    with browser(address, pem) as stranger:
        assert stranger.get("/", headers={"host": host + port}).status_code == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "runs.example.org.evil.example",
        "example.org",
        "x.runs.example.org",
        "runs.example.org.",
        "0.0.0.0",
        "*",
        "",
    ],
)
def test_other_names_are_refused_with_what_to_do(address: str, pem: Pem, host: str) -> None:
    """Not even the token helps."""
    with browser(address, pem) as stranger:
        for path in ("/", "/enter?token=x"):
            answer = stranger.get(path, headers={"host": host})
            assert answer.status_code == 400
            assert "--allow-host" in answer.text
            assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_without_another_name_the_address_names_the_machine(pem: Pem) -> None:
    """Nobody can open 0.0.0.0."""
    with listen("0.0.0.0", tls=pem).socket as bound:
        port = bound.getsockname()[1]
    found = listen("0.0.0.0", port, tls=pem)
    with found.socket:
        assert found.origin == f"https://{socket.gethostname().lower()}:{port}"
        assert socket.gethostname().lower() in found.names
        assert "0.0.0.0" not in found.names


def test_tls_on_this_machine_alone(journal: Path, pem: Pem) -> None:
    """It may be wanted there, too; the address stays that of the machine whatever else is allowed."""
    with serving(journal, "--allow-host", "runs.example.org", *pem.options) as printed:
        assert printed.startswith("https://127.0.0.1:")
        with browser(printed, pem) as reader:
            assert "Secure" in reader.get(printed).headers["set-cookie"]
            assert reader.get("/").status_code == 200


# ---- without -------------------------------------------------------------------------------------------------------


def test_other_machines_need_tls(journal: Path) -> None:
    """The refusal says what is better: ssh; and what else helps."""
    said = refusal(journal, "--host", "0.0.0.0")
    assert "ssh -L 8700:127.0.0.1:8700" in said
    assert "--tls-cert" in said
    assert "--tls-key" in said


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "0", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "2001:db8::1"])
def test_every_address_but_a_loopback_one_needs_tls(host: str) -> None:
    """However it is written."""
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with pytest.raises(CannotListen, match="without TLS"):
        listen(host)


def has_ipv6_loopback() -> bool:
    """Return whether this machine has ::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        pytest.param("::1", "[::1]", marks=pytest.mark.skipif(not has_ipv6_loopback(), reason="no ::1 here")),
    ],
)
def test_loopback_addresses_need_none(journal: Path, host: str, named: str) -> None:
    """Only this machine connects to them."""
    with serving(journal, "--host", host) as printed:
        assert printed.startswith(f"http://{named}:")
        with httpx.Client(base_url=printed.partition("/enter")[0]) as reader:
            assert "Secure" not in reader.get(printed).headers["set-cookie"]
            assert reader.get("/").status_code == 200
            assert reader.get("/", headers={"host": "evil.example"}).status_code == 400


def test_it_listens_where_it_is_told_alone() -> None:
    """A loopback address by default."""
    found = listen()
    with found.socket:
        port = found.socket.getsockname()[1]
        listening = [
            one.laddr.ip
            for one in psutil.Process().net_connections()
            if one.status == "LISTEN" and one.laddr.port == port
        ]
    assert listening == ["127.0.0.1"]
    assert found.names == {"127.0.0.1", "localhost", "[::1]"}


# ---- what can't be used ----------------------------------------------------------------------------------------------


Change = Callable[[Pem, Pem], Pem]


def with_content(content: bytes, *, key: bool = False) -> Change:
    """Return what replaces one of the two files by one with `content`."""

    def change(pem: Pem, _: Pem) -> Pem:
        path = pem.key.with_name("other.pem")
        path.write_bytes(content)
        return pem._replace(key=path) if key else pem._replace(certificate=path)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pem, _: pem._replace(certificate=Path("none.pem")), ["--tls-cert", "none.pem", "No such file"]),
        (lambda pem, _: pem._replace(key=Path("none.pem")), ["--tls-key", "none.pem", "No such file"]),
        (lambda pem, _: pem._replace(key=pem.key.parent), ["--tls-key", "pem", "directory"]),
        (lambda pem, _: Pem(pem.key, pem.certificate), ["--tls-cert", "key.pem", "isn't a certificate"]),
        (lambda pem, _: pem._replace(key=pem.certificate), ["--tls-key", "cert.pem", "isn't a private key"]),
        (lambda pem, other: pem._replace(key=other.key), ["--tls-key", "key.pem", "isn't the key of the certificate"]),
        (with_content(b""), ["--tls-cert", "other.pem", "isn't a certificate"]),
        (with_content(b"\xff\xfe\x00"), ["--tls-cert", "other.pem", "isn't a certificate"]),
        (with_content(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ["--tls-cert", "isn't a certificate"]),
        (with_content(b"", key=True), ["--tls-key", "other.pem", "isn't a private key"]),
        (with_content(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", key=True), ["isn't a private key"]),
    ],
)  # fmt: skip
def test_files_that_can_not_be_used_are_named(tmp_path: Path, change: Change, words: list[str]) -> None:
    """With the option, and what is wrong with them."""
    pem = change(make(tmp_path / "pem"), make(tmp_path / "other"))
    with pytest.raises(CannotListen) as raised:
        listen("0.0.0.0", tls=pem)
    assert [word for word in words if word not in str(raised.value)] == []


def test_a_passphrase_is_not_asked_for(tmp_path: Path, journal: Path) -> None:
    """Nobody may be there to type it."""
    said = refusal(journal, *make(tmp_path / "pem", passphrase=b"secret").options)
    assert "key.pem needs a passphrase" in said


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """As one of another user."""
    pem = make(tmp_path / "pem")
    pem.key.chmod(0)
    with pytest.raises(CannotListen, match=r"--tls-key: \S+key\.pem can't be read: Permission denied"):
        listen(tls=pem)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-cert", "cert.pem"], "--tls-cert and --tls-key need each other"),
        (["--tls-key", "key.pem"], "--tls-cert and --tls-key need each other"),
        (["--allow-host", "https://x.example"], "--allow-host 'https://x.example' is no name of a machine"),
        (["--port", "65536"], "--port"),
    ],
)
def test_options_that_make_no_sense_are_refused(journal: Path, options: list[str], said: str) -> None:
    """Before anything is served."""
    assert said in refusal(journal, *options)


@pytest.mark.parametrize("host", ["no such host", "", "a" * 70 + ".example", "\x00"])
def test_what_is_no_address_is_named(host: str) -> None:
    """With the option."""
    with pytest.raises(CannotListen, match=r"--host '.*' is neither an address nor a known name"):
        listen(host)


@pytest.mark.parametrize("name", ["x.example:8700", "*", "*.example", "", ".", "x/y", "x@y", "x y", "x\n", "[::1", "é"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """No pattern would do what it says, and nothing but a name comes in `Host`."""
    with pytest.raises(CannotListen, match=r"--allow-host '.*' is no name of a machine"):
        listen(names=[name])


def test_an_address_of_another_machine_is_named(pem: Pem) -> None:
    """It is one for documentation, which no machine has."""
    with pytest.raises(
        CannotListen, match=r"192\.0\.2\.1 can't be listened on: .* address of this machine with --host"
    ):
        listen("192.0.2.1", 8_765, tls=pem)


def test_a_port_that_is_taken_is_named() -> None:
    """With `port` only that one will do; without, there is another one."""
    first = listen()
    with first.socket:
        port = first.socket.getsockname()[1]
        with pytest.raises(CannotListen, match=f"port {port} .*--port") as raised:
            listen(port=port)
        assert isinstance(raised.value.__cause__, OSError)
        assert raised.value.__cause__.errno == errno.EADDRINUSE
        with listen().socket as second:
            assert second.getsockname()[1] != port


@pytest.mark.parametrize(
    ("name", "kept"),
    [("X.Example", "x.example"), ("2001:DB8::0:1", "[2001:db8::1]"), ("192.0.2.7", "192.0.2.7"), ("a_b-c", "a_b-c")],
)
def test_names_are_kept_as_browsers_send_them(name: str, kept: str) -> None:
    """In lower case, and an address of IPv6 in brackets."""
    found = listen(names=[name])
    with found.socket:
        assert kept in found.names
