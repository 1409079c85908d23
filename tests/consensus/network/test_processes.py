"""The process network on real sockets: frames arrive, strangers and floods do not."""

import asyncio
import datetime

import pytest

from consensus.identity import Key
from consensus.network.hello import Credentials
from consensus.network.processes import Limits, ProcessNetwork
from consensus.network.tls import mutual
from fedalign.core.errors import ConfigError

KEYS = [Key(bytes([7 + i] * 32)) for i in range(3)]
MEMBERS = {id: key.node_id for id, key in enumerate(KEYS)}
QUICK = Limits(frame_bytes=1 << 20, queue_bytes=1 << 20, hello_s=0.3, backoff_s=(0.01, 0.05))


class Pair:
    """Servers 0 and 1 (and more) on unix sockets in a folder."""

    def __init__(self, folder, count=2, limits=QUICK, keys=KEYS, tls=None):
        addresses = {id: f"unix:{folder}/{id}" for id in range(count)}
        self.got = [[] for _ in range(count)]
        self.nets = []
        for id in range(count):
            mine = Credentials(id, keys[id], 5, MEMBERS)

            def receive(sender, frame, id=id):
                self.got[id].append((sender, frame))

            self.nets.append(ProcessNetwork(mine, addresses, receive, limits, tls and tls[id]))

    async def __aenter__(self):
        for net in self.nets:
            await net.start()
        return self

    async def __aexit__(self, *_):
        for net in self.nets:
            await net.close()


async def until(condition, within_s=5.0):
    for _ in range(int(within_s / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen in time")


def test_frames_arrive_in_order_with_their_sender(tmp_path):
    async def play():
        async with Pair(tmp_path) as pair:
            for number in range(300):
                pair.nets[0].send(1, b"%d" % number)
            pair.nets[1].send(0, b"x" * 900_000)
            await until(lambda: len(pair.got[1]) == 300 and pair.got[0])
            assert pair.got[1] == [(0, b"%d" % number) for number in range(300)]
            assert pair.got[0] == [(1, b"x" * 900_000)]
            assert pair.nets[0].connected() == [1]

    asyncio.run(play())


def test_tcp_works_as_well():
    import socket

    async def play():
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as one:
                ports.append(one.getsockname()[1])
        addresses = {id: f"tcp:127.0.0.1:{port}" for id, port in enumerate(ports)}
        got = []
        nets = [
            ProcessNetwork(
                Credentials(id, KEYS[id], 5, MEMBERS), addresses, lambda *what: got.append(what), QUICK
            )
            for id in range(2)
        ]  # fmt: skip
        for net in nets:
            await net.start()
        nets[0].send(1, b"hello")
        await until(lambda: got == [(0, b"hello")])
        for net in nets:
            await net.close()

    asyncio.run(play())


def test_a_server_that_comes_later_is_called_again(tmp_path):
    async def play():
        pair = Pair(tmp_path)
        await pair.nets[0].start()
        pair.nets[0].send(1, b"early")
        await asyncio.sleep(0.1)
        assert pair.nets[0].counters["failed calls"] > 0
        await pair.nets[1].start()
        await until(lambda: pair.got[1] == [(0, b"early")])
        await pair.nets[1].close()
        await until(lambda: pair.nets[0].connected() == [])
        again = Pair(tmp_path)
        await again.nets[1].start()
        await until(lambda: pair.nets[0].connected() == [1])
        await pair.__aexit__()
        await again.nets[1].close()

    asyncio.run(play())


def test_a_full_queue_drops_heartbeats_first_then_the_oldest(tmp_path):
    """Nobody listens; room for 3 of 40 bytes: the droppable one goes, then the first."""
    pair = Pair(tmp_path, limits=Limits(queue_bytes=120))
    net = pair.nets[0]
    for frame, droppable in (
        (b"a", False),
        (b"b", True),
        (b"c", False),
        (b"d", False),
        (b"e", False),
    ):
        net.send(1, frame * 40, droppable)
    waiting = [frame[:1] for frame, _ in net._peers[1]._queue]
    assert waiting == [b"c", b"d", b"e"] and net.counters["dropped"] == 2


async def _call(folder, *data, wait_s=2.0):
    """Say something to server 0; what it answers before it hangs up."""
    reader, writer = await asyncio.open_unix_connection(f"{folder}/0")
    for part in data:
        writer.write(part)
    try:
        return await asyncio.wait_for(reader.read(), wait_s)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\xff\xff\xff\xff", "oversized"),  # 4 GB announced: nothing is allocated for it
        (b"GET / HTTP/1.1\r\n\r\n", "oversized"),  # "GET " as a length
        (b"\0\0\0\3abc", "shape"),
        (b"", "silent"),  # slow loris: hangs up after hello_s
        (b"\0\0\0\5ab", "silent"),
    ],
)
def test_strangers_are_cut_off_and_counted(tmp_path, said, reason):
    async def play():
        async with Pair(tmp_path) as pair:
            assert await _call(tmp_path, said) == b""
            assert pair.nets[0].counters[f"refused {reason}"] == 1
            pair.nets[1].send(0, b"still here")
            await until(lambda: pair.got[0])

    asyncio.run(play())


def test_a_wrong_key_gets_nothing_through(tmp_path):
    async def play():
        async with Pair(tmp_path, keys=[KEYS[0], KEYS[2]]) as pair:
            pair.nets[1].send(0, b"let me in")
            pair.nets[0].send(1, b"nor out")
            await asyncio.sleep(0.3)
            assert pair.got == [[], []]
            assert pair.nets[0].counters["refused forged"] > 0
            assert pair.nets[0].connected() == []

    asyncio.run(play())


def test_too_many_unproved_callers_are_turned_away(tmp_path):
    async def play():
        async with Pair(tmp_path, limits=Limits(callers=3, hello_s=5.0)) as pair:
            await until(lambda: pair.nets[0].connected() and pair.nets[1].connected())
            lines = [await asyncio.open_unix_connection(f"{tmp_path}/0") for _ in range(5)]
            await until(lambda: pair.nets[0].counters["refused crowd"] >= 2)
            pair.nets[1].send(0, b"members pass")
            await until(lambda: pair.got[0])
            for _, writer in lines:
                writer.close()

    asyncio.run(play())


def test_frames_above_the_limit_cut_the_line_of_a_member_too(tmp_path):
    async def play():
        async with Pair(tmp_path, limits=Limits(frame_bytes=100, backoff_s=(0.01, 0.02))) as pair:
            pair.nets[0].send(1, b"x" * 101)
            await until(lambda: pair.nets[1].counters["refused oversized"] == 1)
            await until(lambda: 1 in pair.nets[0].connected())
            pair.nets[0].send(1, b"y")
            await until(lambda: pair.got[1] == [(0, b"y")])

    asyncio.run(play())


@pytest.mark.parametrize(
    "wrong", ["", "unix:", "tcp:host", "tcp:host:0", "tcp:host:99999", "udp:a:1"]
)
def test_addresses_that_are_none_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"unix:PATH or tcp:HOST:PORT"):
        ProcessNetwork(Credentials(0, KEYS[0], 5, MEMBERS), {0: wrong}, print)


def test_a_server_needs_an_address_of_its_own():
    with pytest.raises(ConfigError, match=r"Server 2 has no address; known: \[0\]"):
        ProcessNetwork(Credentials(2, KEYS[2], 5, MEMBERS), {0: "unix:/x"}, print)


# ---------------------------------------------------------------------- mutual TLS


def certificates(folder, id, authority=None):
    """A certificate for `server-ID`, of `authority` or of itself; paths and the signing pair."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"server-{id}")])
    issuer, signer = (authority[0].subject, authority[1]) if authority else (name, key)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"server-{id}")]), False)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), True)
        .sign(signer, hashes.SHA256())
    )  # fmt: skip
    where = folder / f"{id}.pem", folder / f"{id}.key"
    where[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    where[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return *where, (made, key)


@pytest.mark.parametrize("foreign", [False, True])
def test_mutual_tls_lets_only_certified_servers_in(tmp_path, foreign):
    """foreign: server 1 shows a certificate of another authority."""
    pytest.importorskip("cryptography", reason="install cryptography to make certificates")
    root_pem, _, root = certificates(tmp_path, "root")
    contexts = []
    for id in range(2):
        home = tmp_path / str(id)
        home.mkdir()
        by = certificates(home, "other")[2] if foreign and id == 1 else root
        pem, key, _ = certificates(home, id, by)
        contexts.append(mutual(pem, key, root_pem))

    async def play():
        folder = tmp_path / "s"
        folder.mkdir()
        async with Pair(folder, tls=contexts) as pair:
            pair.nets[1].send(0, b"hello")
            if foreign:
                await asyncio.sleep(0.3)
                assert pair.got[0] == [] and pair.nets[0].connected() == []
            else:
                await until(lambda: pair.got[0] == [(1, b"hello")])

    asyncio.run(play())
