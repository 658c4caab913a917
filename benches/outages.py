#!/usr/bin/env python3
"""Measures how soon pget and other readers resume after an outage, and whether they complete.

usage: outages.py [--program pget=PATH]... [--outages 1,3,10,30] [--beside N]

A server in this process serves one object at RATE, by ranges, over HTTP and as an S3 server that
checks no signature. In the middle of a read it stops: it resets open connections and refuses new
ones. After the outage it listens again. Each row of the table states whether all bytes arrived, and
the time from the server's return to the first request.

Readers that are not installed are skipped: curl, aria2c, s5cmd, boto3 with a Python that has it
(--python), and object_store in the program that benches/lies/run.sh builds
(--object-store target/lies/debug/pget-lies).
"""
import argparse
import asyncio
import hashlib
import os
import re
import shutil
import socket
import struct
import tempfile
import time

MIB = 1 << 20
SIZE = 40 * MIB
RATE = 8 * MIB
BEFORE = 2.0  # Seconds of service before the outage.
LIMIT = 180.0  # Seconds after which a run is ended.
PIECE = 32 << 10
DATA = b''.join(hashlib.sha256(i.to_bytes(4, 'big')).digest() for i in range(SIZE // 32))
BOTO = '''
import boto3, sys
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
n = int(sys.argv[4])
s3 = boto3.client('s3', endpoint_url=sys.argv[1], aws_access_key_id='k', aws_secret_access_key='s',
                  region_name='us-east-1', config=Config(max_pool_connections=n))
c = TransferConfig(multipart_threshold=1, multipart_chunksize=int(sys.argv[3]), max_concurrency=n)
s3.download_file('b', 'o', sys.argv[2], Config=c)
'''


class Server:
    """Serves DATA, except during an outage."""

    def __init__(self):
        self.up, self.back, self.first, self.open = True, None, None, set()
        self.listener, self.port, self.next = None, 0, 0.0

    async def listen(self):
        self.listener = await asyncio.start_server(
            self.serve, '127.0.0.1', self.port, reuse_address=True, backlog=1024)
        self.port = self.listener.sockets[0].getsockname()[1]

    async def outage(self, seconds):
        self.listener.close()
        for writer in list(self.open):
            sock = writer.get_extra_info('socket')
            if sock is not None and sock.fileno() >= 0:
                # With this option, a close is a reset.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            writer.transport.abort()
        await asyncio.sleep(seconds)
        await self.listen()
        self.back = time.monotonic()

    async def serve(self, reader, writer):
        self.open.add(writer)
        try:
            while await self.answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def answer(self, reader, writer):
        head = (await reader.readuntil(b'\r\n\r\n')).decode('latin-1')
        if self.back is not None and self.first is None:
            self.first = time.monotonic()
        method = head.split(' ', 1)[0]
        asked = re.search(r'(?im)^range: *bytes=(\d+)-(\d*)', head)
        start, end = 0, SIZE
        if asked:
            start = int(asked[1])
            end = min(SIZE, int(asked[2]) + 1) if asked[2] else SIZE
        lines = ['HTTP/1.1 ' + ('206 Partial Content' if asked else '200 OK'), 'ETag: "o"',
                 'Accept-Ranges: bytes', 'Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT',
                 f'Content-Length: {end - start}']
        if asked:
            lines.append(f'Content-Range: bytes {start}-{end - 1}/{SIZE}')
        writer.write('\r\n'.join(lines + ['', '']).encode())
        if method != 'HEAD':
            for at in range(start, end, PIECE):
                piece = DATA[at:min(at + PIECE, end)]
                now = time.monotonic()
                self.next = max(self.next, now) + len(piece) / RATE
                if self.next - now > 0.02:
                    await asyncio.sleep(self.next - now)
                writer.write(piece)
                await writer.drain()
        return True


def commands(arguments):
    """Returns the readers: their names and the command of one run."""
    def pget(program):
        return lambda url, s3, out, chunk, n: (
            [program, 'get', url, '-o', out, '--chunk-size', str(chunk), '--concurrency', str(n)], {})
    found = {}
    for named in arguments.program:
        name, program = named.split('=', 1)
        found[name] = pget(program)
    curl, aria = shutil.which('curl'), shutil.which('aria2c')
    s5cmd = shutil.which('s5cmd')
    if curl:
        found['curl --retry'] = lambda url, s3, out, chunk, n: (
            [curl, '-sSf', '--retry', '1000', '--retry-all-errors', '--retry-max-time', '120',
             '-C', '-', '-o', out, url], {})
    if aria:
        found['aria2c -m 0 --retry-wait=1'] = lambda url, s3, out, chunk, n: (
            [aria, '-q', '-m', '0', '--retry-wait=1', '-x', str(min(n, 16)), '-s', str(n),
             '-k', str(max(chunk, MIB)), '-d', '/', '-o', out.lstrip('/'), '--file-allocation=none', url],
            {})
        found['aria2c'] = lambda url, s3, out, chunk, n: (
            [aria, '-q', '-x', str(min(n, 16)), '-s', str(n), '-k', str(max(chunk, MIB)), '-d', '/',
             '-o', out.lstrip('/'), '--file-allocation=none', url], {})
    keys = {'AWS_ACCESS_KEY_ID': 'k', 'AWS_SECRET_ACCESS_KEY': 's', 'AWS_REGION': 'us-east-1'}
    if s5cmd:
        found['s5cmd'] = lambda url, s3, out, chunk, n: (
            [s5cmd, '--endpoint-url', s3, 'cp', '-c', str(n), '-p', str(max(chunk // MIB, 5)),
             's3://b/o', out], keys)
    if arguments.object_store:
        found['object_store'] = lambda url, s3, out, chunk, n: (
            [arguments.object_store, 'object_store'],
            {'ENDPOINT': s3, 'OUT': out, 'CHUNK': str(chunk), 'CONCURRENCY': str(n), 'SIZE': str(SIZE)})
    if arguments.python:
        found['boto3'] = lambda url, s3, out, chunk, n: (
            [arguments.python, '-c', BOTO, s3, out, str(chunk), str(n)], keys)
    return found


async def run(make, seconds, chunk, concurrency):
    server = Server()
    await server.listen()
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, 'o')
        command, more = make(f'http://127.0.0.1:{server.port}/b/o', f'http://127.0.0.1:{server.port}', out,
                             chunk, concurrency)
        began = time.monotonic()
        child = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **more}, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE)
        trouble = asyncio.create_task(later(server, seconds))
        try:
            _, errors = await asyncio.wait_for(child.communicate(), LIMIT)
        except asyncio.TimeoutError:
            child.kill()
            await child.wait()
            errors = b'no end'
        ended = time.monotonic()
        early = not trouble.done()
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        complete = os.path.exists(out) and open(out, 'rb').read() == DATA and child.returncode == 0
        server.listener.close()
        if early and complete:
            return 'no outage was met'
        if not complete:
            last = errors.decode(errors='replace').strip().splitlines()[-1:]
            when = f'ended after {ended - began:.0f} s' if early or server.back is None else \
                f'ended {ended - server.back:.0f} s after'
            return f'no ({when}: {"".join(last)[-90:]})'
        first = f'{server.first - server.back:.1f}' if server.first else '-'
        return f'yes {first} s'


async def later(server, seconds):
    await asyncio.sleep(BEFORE)
    await server.outage(seconds)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--program', action='append', default=[], metavar='NAME=PATH')
    parser.add_argument('--outages', default='1,3,10,30')
    parser.add_argument('--chunks', default='65536,1048576,8388608')
    parser.add_argument('--concurrency', default='1,8,64')
    parser.add_argument('--beside', type=int, default=4, help='runs at a time')
    parser.add_argument('--python', help='a Python that has boto3')
    parser.add_argument('--object-store', help='a pget-lies, which reads by object_store')
    parser.add_argument('--only', help='these readers alone, by name')
    arguments = parser.parse_args()
    readers = commands(arguments)
    if arguments.only:
        readers = {name: make for name, make in readers.items() if name in arguments.only.split(',')}
    gate = asyncio.Semaphore(arguments.beside)

    async def one(name, seconds, chunk, n):
        async with gate:
            result = await run(readers[name], seconds, chunk, n)
        print(f'{name} | {seconds:g} s | {chunk // 1024} KiB | {n} | {result}', flush=True)

    print('reader | outage | chunk | concurrency | complete, first request after the return')
    await asyncio.gather(*(
        one(name, float(seconds), int(chunk), int(n))
        for name in readers
        for seconds in arguments.outages.split(',')
        for chunk in arguments.chunks.split(',')
        for n in arguments.concurrency.split(',')
        # A single connection has no chunks, so its chunk size makes no difference.
        if not (name.startswith('curl') and (int(n) > 1 or int(chunk) > 65536))))


asyncio.run(main())
