"""Runs the measurements that benches/networks.sh describes."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request

NETWORKS = {
    "N1": 1536, "N2": 3072, "N3": 1536, "N4": 200,
    "N5": 1536, "N6": 1024, "N7": 1536, "N8": 1536,
}
GRID = "1x8MiB 2x8MiB 4x4MiB 8x8MiB 16x1MiB 32x2MiB 32x8MiB 64x2MiB 128x1MiB 128x2MiB 128x4MiB"
# What a Python with boto3 or obstore runs to read BUCKET/KEY from an S3 server at URL.
CLIENT = (
    "import boto3, botocore, sys; from boto3.s3.transfer import TransferConfig;"
    " config = botocore.config.Config(signature_version=botocore.UNSIGNED);"
    " client = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1',"
    " config=config);"
    " out = open('/dev/null', 'wb');"
)
PYTHON = {
    "boto3": (
        "boto3",
        CLIENT + "client.download_fileobj(sys.argv[2], sys.argv[3], out)",
    ),
    "boto3 with awscrt": (
        "boto3, awscrt",
        CLIENT
        + "crt = TransferConfig(preferred_transfer_client='crt');"
        + "client.download_fileobj(sys.argv[2], sys.argv[3], out, Config=crt)",
    ),
    "obstore": (
        "obstore",
        "import obstore, sys; from obstore.store import S3Store;"
        " store = S3Store(sys.argv[2], endpoint=sys.argv[1], region='us-east-1',"
        " skip_signature=True, client_options={'allow_http': True});"
        "[None for piece in obstore.get(store, sys.argv[3]).stream()]",
    ),
}
ARIA2_FOLDER = "/dev/shm"
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}


class Server:
    """The shaped server as a child process."""

    def __init__(self):
        self.child = subprocess.Popen(
            ["target/release/examples/shaped"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self.child.stdout.readline().strip()

    def control(self, path):
        with urllib.request.urlopen(f"{self.url}/-/{path}") as answer:
            return json.load(answer)

    def shape(self, network):
        self.control("preset?N1")
        self.control(f"set?{network}" if "=" in network else f"preset?{network}")

    def stop(self):
        self.child.stdin.close()
        self.child.wait()


def ways(url, size):
    """Returns the commands that read an object of `size` bytes, by name."""
    found = {"no options": ["target/release/pget", "cat", url]}
    for pair in os.environ.get("GRID", GRID).split():
        connections, chunk = pair.split("x")
        found[f"pget c{connections} {chunk}"] = [
            "target/release/pget", "cat", url, "--concurrency", connections, "--chunk-size", chunk,
        ]
        chunk = int(chunk[:-3]) * UNITS[chunk[-3:]]
        found[f"bare c{connections} {pair.split('x')[1]}"] = [
            "target/release/bare", url, "--size", str(size),
            "--concurrency", connections, "--chunk-size", str(chunk),
        ]
    return found | peers(url)


def peers(url):
    """The commands of the other readers that are installed."""
    found = {}
    if shutil.which("curl"):
        found["curl"] = ["curl", "-sS", "-o", "/dev/null", url]
    if shutil.which("aria2c"):
        found["aria2c"] = [
            "aria2c", "-q", "-x16", "-s16", "-k1M", "--allow-overwrite=true",
            "--file-allocation=none", "-d", ARIA2_FOLDER, "-o", "pget-networks", url,
        ]
    # The shaped server looks at the last part of a path only. s5cmd asks for the bucket first, so
    # that has the name of an object, too.
    endpoint, key = url.rsplit("/", 1)
    if shutil.which("s5cmd"):
        found["s5cmd"] = [
            "s5cmd", "--no-sign-request", "--endpoint-url", endpoint, "cat", f"s3://1mib/{key}",
        ]
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    for name, (modules, program) in PYTHON.items():
        probe = subprocess.run([python, "-c", f"import {modules}"], stderr=subprocess.DEVNULL)
        if probe.returncode == 0:
            found[name] = [python, "-c", program, endpoint, "bucket", key]
    return found


def run(command, limit):
    """Runs a command. Returns seconds, CPU seconds and peak MiB, or None if it fails or is too slow."""
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - began > limit:
            child.kill()
            os.wait4(child.pid, 0)
            return None
        time.sleep(0.002)
    seconds = time.monotonic() - began
    if status != 0:
        return None
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(server, name, mib, rounds):
    """Returns the medians of each way on one network."""
    size = mib << 20
    commands = ways(f"{server.url}/{mib}MiB", size)
    runs = {way: [] for way in commands}
    counters = {}
    best = float("inf")
    for number in range(rounds):
        for way, command in commands.items():
            if number > 0 and not runs[way]:
                continue
            server.shape(name)
            server.control("reset")
            # A time of more than four times the best need not be known exactly.
            result = run(command, min(60.0, best * 4 + 2) if best < 60 else 60.0)
            # A file of an earlier run would be continued, or refused.
            for left in pathlib.Path(ARIA2_FOLDER).glob("pget-networks*"):
                left.unlink()
            if result is None:
                continue
            runs[way].append(result)
            best = min(best, result[0])
            counters[way] = server.control("stats")
    figures = {}
    for way, results in runs.items():
        if results:
            seconds, cpu, peak = (statistics.median(column) for column in zip(*results))
            figures[way] = {
                "seconds": round(seconds, 3),
                "cpu_per_gib": round(cpu / (mib / 1024), 3),
                "peak_mib": round(peak),
                "runs": [round(result[0], 3) for result in results],
                **counters[way],
            }
    return figures


def summary(name, figures):
    """Returns one line of the table."""
    mine = figures["no options"]
    fixed = {way: figure for way, figure in figures.items() if way.startswith("pget ")}
    best_way = min(figures, key=lambda way: figures[way]["seconds"])
    best = figures[best_way]["seconds"]
    good = [figure["cpu_per_gib"] for figure in fixed.values() if best / figure["seconds"] >= 0.85]
    bare = {way: figure for way, figure in figures.items() if way.startswith("bare ")}
    bare_way = min(bare, key=lambda way: bare[way]["seconds"]) if bare else ""
    refused = mine["refused"] / max(mine["requests"], 1)
    return (
        f"| {name} | {mine['seconds']:.2f} / {mine['cpu_per_gib']:.3f} / {mine['peak_mib']} "
        f"| {best_way} {best:.2f} | {bare_way} "
        f"{bare[bare_way]['seconds'] if bare else 0:.2f} | {best / mine['seconds']:.2f} "
        f"| {mine['cpu_per_gib'] / min(good) if good else 0:.2f} | {refused:.3f} |"
    )


def main():
    rounds = int(os.environ.get("ROUNDS", "5"))
    names = os.environ.get("NETWORKS", " ".join(NETWORKS)).split()
    server = Server()
    everything = {"load": os.getloadavg(), "rounds": rounds, "networks": {}}
    print(
        "| network | no options: s / CPU s per GiB / peak MiB | best | best bare "
        "| share of the best | CPU of the cheapest good setting | refused |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    try:
        for name in names:
            mib = NETWORKS.get(name, int(os.environ.get("MIB", "1024")))
            figures = measure(server, name, mib, rounds)
            everything["networks"][name] = figures
            print(summary(name, figures), flush=True)
    finally:
        server.stop()
    everything["load_after"] = os.getloadavg()
    os.makedirs("target/figures", exist_ok=True)
    with open("target/figures/networks.json", "w", encoding="utf-8") as file:
        json.dump(everything, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
