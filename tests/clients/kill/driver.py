"""What drives a server of its own: started, killed, started again on the data that it has left."""

import json
import os
import signal
import subprocess
import sys
import traceback

SECONDS = 60  # for the server to come back, and for anything else to make progress


class Failure(Exception):
    pass


def check(holds, what):
    if not holds:
        raise Failure(what)


def remark(text):
    print(text, file=sys.stderr, flush=True)


class Server:
    def __init__(self, command, log):
        self.command, self.log = command, open(log, "ab")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def kill(self):
        check(self.process.poll() is None, f"the server ended by itself: {self.process.returncode}")
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)


def conclude(server, test):
    """Runs the test, stops the server, and prints the result as JSON on the last line."""
    try:
        result = {"result": "pass", "data": test()}
    except Exception as error:
        traceback.print_exc()
        result = {"result": "fail", "reason": f"{error}"}
    finally:
        server.stop()
    print(json.dumps(result), flush=True)
    os._exit(0)  # the clients of a failed run may hang
