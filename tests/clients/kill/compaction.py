"""A log of many keys with a long history, compacted while it is written and read.

    python compaction.py --bootstrap 127.0.0.1:9092 --http 127.0.0.1:8080 --keys 1000000 --factor 1000
        --history 'java -cp LIB/* ManyKeys.java' [--log server.log] -- SERVER COMMAND...

Java clients write and read (ManyKeys.java). Meanwhile the server's memory, its disk and the rate of its compaction are
watched; then it is stopped politely in the middle of a compaction, killed, and each time what is left is compared with
what was written. The last line printed is the result as JSON.
"""

import argparse
import os
import shlex
import subprocess
import threading
import time
import urllib.request

from driver import SECONDS, Failure, Server, check, conclude, remark

MIB = 1 << 20
# What it takes at rest, memory for recent batches and answers, and for as many keys as it may know at once.
RESIDENT_MAX = 448 * MIB
# 32 MiB/s, and a chunk that is on its way at each end of the second that is measured.
RATE_MAX = 32 * MIB + 4 * MIB
DISK_MAX = 15 << 30


class Watch(threading.Thread):
    """Looks at the server every second, as long as it is there."""

    def __init__(self, test):
        super().__init__(daemon=True)
        self.test, self.resident, self.rate, self.disk = test, 0, 0, 0
        self.start()

    def run(self):
        before = None
        while True:
            time.sleep(1)
            try:
                with open(f"/proc/{self.test.server.process.pid}/status") as status:
                    lines = [line for line in status if line.startswith("VmRSS:")]
                now = time.monotonic(), self.test.metric("millstream_compaction_moved_bytes_total")
            except (OSError, Failure):
                before = None  # it is being started
                continue
            if lines:
                self.resident = max(self.resident, int(lines[0].split()[1]) << 10)
            if before and now[1] >= before[1]:
                # A look that came late is one over a longer time.
                self.rate = max(self.rate, (now[1] - before[1]) / max(now[0] - before[0], 1.0))
            before = now
            self.disk = max(self.disk, self.test.disk())


class Test:
    def __init__(self, options, server):
        self.options, self.server = options, server
        self.watch = Watch(self)

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.options.http}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
        check(found, f"no metric {name}")
        return float(found[0])

    def disk(self):
        total = 0
        for folder, _, files in os.walk(self.options.data):
            for file in files:
                try:
                    total += os.stat(os.path.join(folder, file)).st_size
                except OSError:
                    pass  # it is gone
        return total

    def until_ready(self):
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.options.http}/readyz", timeout=5):
                    return
            except OSError as error:
                check(time.monotonic() < deadline, f"the server does not become ready: {error}")
            time.sleep(0.1)

    def until_at_rest(self):
        """Waits until nothing has been compacted for some seconds."""
        moved, since = -1, time.monotonic()
        while time.monotonic() - since < 10:
            now = self.metric("millstream_compaction_moved_bytes_total")
            if now != moved:
                moved, since = now, time.monotonic()
            time.sleep(1)

    def until_compacting(self):
        before = self.metric("millstream_compaction_moved_bytes_total")
        deadline = time.monotonic() + SECONDS
        while self.metric("millstream_compaction_moved_bytes_total") == before:
            if time.monotonic() > deadline:
                return  # it is done already
            time.sleep(0.02)

    def ask(self, what, history):
        history.stdin.write("compare\n")
        history.stdin.flush()
        answer = history.stdout.readline().strip()
        check(answer.startswith("found "), f"{what}: {answer or 'the clients have ended'}")
        count = int(answer.split()[1])
        remark(f"{what}: {count} records are left")
        return count

    def again(self, how):
        how()
        self.server.start()
        self.until_ready()

    def run(self):
        keys, factor = self.options.keys, self.options.factor
        self.until_ready()
        begun = time.monotonic()
        command = [*shlex.split(self.options.history), self.options.bootstrap, str(keys), str(factor)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as history:
            try:
                written = history.stdout.readline().strip()
                check(written.startswith("written "), written or "the clients have ended")
                seconds = time.monotonic() - begun
                remark(f"{written}, in {seconds:.0f} s")
                compactions = self.metric("millstream_compactions_total")
                check(compactions > 0, "nothing was compacted while it was written")
                self.ask("when all is written", history)
                self.until_compacting()
                self.again(self.server.stop)
                self.ask("after a stop", history)
                self.until_compacting()
                self.again(self.server.kill)
                self.ask("after a kill", history)
                self.until_at_rest()
                left = self.ask("at rest", history)
            finally:
                history.kill()
        # What is not in a segment yet, and what is not worth a compaction, may have come twice.
        check(left < 3 * keys, f"{left} records of {keys} keys are left")
        watch = self.watch
        check(watch.resident < RESIDENT_MAX, f"it took {watch.resident / MIB:.0f} MiB of memory")
        check(watch.rate < RATE_MAX, f"compaction took {watch.rate / MIB:.1f} MiB/s")
        check(watch.disk < DISK_MAX, f"it took {watch.disk / MIB:.0f} MiB of the disk")
        return {
            "keys": keys,
            "records": keys * factor,
            "seconds": round(seconds),
            "compactions meanwhile": round(compactions),
            "left": left,
            "memory, MiB": round(watch.resident / MIB),
            "compaction, MiB/s at most": round(watch.rate / MIB, 1),
            "disk, MiB at most": round(watch.disk / MIB),
        }


def main():
    parser = argparse.ArgumentParser()
    for name in "bootstrap", "http", "history", "data":
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--factor", type=int, default=1_000)
    parser.add_argument("--log", default="server.log")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    server = Server([word for i, word in enumerate(options.command) if i or word != "--"], options.log)
    conclude(server, Test(options, server).run)


main()
