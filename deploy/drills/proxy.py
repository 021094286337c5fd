"""What the drills put between Posthaste and a server: a proxy that misbehaves, and an end of TLS for servers without."""

import asyncio
import random
import ssl
import subprocess
import threading


class Listener:
    """Listens on a port of its own, in a thread of its own."""

    def __init__(self, port, tls=None):
        self.target, ready = port, threading.Event()

        async def serve():
            self.loop = asyncio.get_running_loop()
            server = await asyncio.start_server(self.link, "127.0.0.1", 0, ssl=tls)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        ready.wait(10)

    async def link(self, reader, writer):
        raise NotImplementedError


class Proxy(Listener):
    """Between Posthaste and a server. `state`: pass, hold (nothing moves, nothing is closed), crawl, refuse, corrupt (a
    byte of one part in twenty is another)."""

    def __init__(self, port):
        self.state, self.links, self.corrupted = "pass", set(), 0
        super().__init__(port)

    async def link(self, reader, writer):
        if self.state == "refuse":
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, there_writer)
        self.links.add(ends)
        ways = [self.pump(reader, there_writer), self.pump(there_reader, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        self.links.discard(ends)
        for end in ends:
            end.transport.abort()

    async def pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                while self.state == "hold":
                    await asyncio.sleep(0.02)
                if self.state == "crawl":
                    # 20,000 bytes a second.
                    for at in range(0, len(data), 400):
                        writer.write(data[at:at + 400])
                        await writer.drain()
                        await asyncio.sleep(0.02)
                    continue
                if self.state == "corrupt" and random.random() < 0.05:
                    changed = bytearray(data)
                    changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
                    data = bytes(changed)
                    self.corrupted += 1
                writer.write(data)
                await writer.drain()
        except OSError:
            pass

    def cut(self):
        """Aborts every connection, in the middle of whatever goes on."""
        self.loop.call_soon_threadsafe(lambda: [end.transport.abort() for link in list(self.links) for end in link])

    def be(self, state):
        self.state = state


class Certificates:
    """An authority of its own, and a certificate for 127.0.0.1."""

    def __init__(self, root):
        self.ca, self.cert, self.key = root / "ca.pem", root / "server.pem", root / "server.key"
        requests = root / "server.csr"
        extensions = root / "server.ext"
        extensions.write_text("subjectAltName = IP:127.0.0.1, DNS:localhost\nextendedKeyUsage = serverAuth\n")
        new = ["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        for command in (
            [*new, "-x509", "-days", "2", "-subj", "/CN=drills", "-keyout", root / "ca.key", "-out", self.ca],
            [*new, "-subj", "/CN=127.0.0.1", "-keyout", self.key, "-out", requests],
            ["x509", "-req", "-days", "2", "-in", requests, "-CA", self.ca, "-CAkey", root / "ca.key", "-CAcreateserial",
             "-extfile", extensions, "-out", self.cert],
        ):
            subprocess.run(["openssl", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Tls(Listener):
    """Takes TLS, and speaks plainly to the server. `postgres`: after the client has asked for it, as its protocol has it."""

    def __init__(self, port, certificates, postgres=False):
        self.postgres, self.context = postgres, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificates.cert, certificates.key)
        super().__init__(port, None if postgres else self.context)

    async def link(self, reader, writer):
        there = None
        try:
            if self.postgres:
                await reader.readexactly(8)
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self.context)
            there_reader, there = await asyncio.open_connection("127.0.0.1", self.target)
            ways = (self.pump(reader, there), self.pump(there_reader, writer))
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        except (OSError, asyncio.IncompleteReadError):
            pass
        for end in (writer, there):
            if end:
                end.transport.abort()

    @staticmethod
    async def pump(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
