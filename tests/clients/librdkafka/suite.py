"""librdkafka's own tests against a server: builds them, runs them one process each, prints the outcome.

The sources are those that the crate `rdkafka-sys` ships. What is in C++ is built where there is a compiler for
it; what is left out, and why, is in LEFT_OUT and in docs/compatibility.md.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

VERSION = "4.10.0"
# The version of Apache Kafka whose behaviour the tests are to expect.
KAFKA = "4.1.0"
TOPICS_TOOL = "org.apache.kafka.tools.TopicCommand"

# Beyond those that need no broker, and those that skip themselves.
LEFT_OUT = {
    "0077": "compacts a log of 10 kB segments within seconds",
    "0097": "needs TLS",
    "0101": "needs three brokers",
    "0115": "needs ACLs",
    "0119": "needs ACLs",
    "0135": "needs SASL",
    "8000": "waits for somebody to end it",
    "8001": "waits for somebody to end it",
}
# Tests of another scenario: a server without automatic topics. There 0045 expects all partitions to be assigned
# anew, which is what the classic protocol does.
NO_TOPICS = {"classic": ["0045", "0107", "0111"], "consumer": ["0107", "0111"]}

# With --quick: in the classic protocol all but the slow ones (and three that measure time), in the consumer
# protocol those to which the protocol matters.
SLOW = {"0026", "0055", "0059", "0076", "0081", "0089", "0091", "0093", "0094", "0098", "0113", "0122", "0127", "0137", "0139", "0150"}
CONSUMER = {"0012", "0015", "0018", "0022", "0029", "0030", "0031", "0033", "0034", "0036", "0041", "0042", "0049", "0050",
            "0051", "0056", "0061", "0064", "0068", "0069", "0085", "0088", "0099", "0102", "0107", "0109", "0111",
            "0112", "0118", "0123", "0129", "0130", "0137", "0153"}

# What of a test can't be asked for, or not of Apache Kafka 4 either: file, what is there, what is built.
PATCHES = [
    ("0081-admin.c", r"\n\s*do_test_(Create|Describe|Delete)Acls\(rk, mainq, [01]\);", ""),
    ("0081-admin.c", r"\n(\s*)do_test_UserScramCredentials\(", r"\n\1(void)sizeof do_test_UserScramCredentials("),
    ("0109-auto_create_topics.cpp", r"bool has_acl_cli =[^;]*;", "bool has_acl_cli = sizeof(int) == 0;"),
    ("0129-fetch_aborted_msgs.c", '"segment.bytes", "20000"', '"segment.bytes", "1048576"'),
]

# Some tests expect members that come at once to be in the first generation together.
SETTINGS = ["group.initial.rebalance.delay.ms=500", "group.consumer.min.heartbeat.interval.ms=1",
            "group.consumer.min.session.timeout.ms=1"]
SECONDS = 900
CFLAGS = "-O1 -w -fPIC -I../src -I. -include ../config.h".split()
CXX = shutil.which(os.environ.get("CXX", "g++"))
RUNNER = "test-runner++" if CXX else "test-runner"


def run(command, folder, log):
    with open(log, "ab") as out:
        done = subprocess.run(command, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: see {log}")


def build(cache, log):
    """The folder of the test runner, which is built if it is not there."""
    crate = cache / f"crate-{VERSION}"
    tests = crate / "vendor/rdkafka-sys/librdkafka/tests"
    if (tests / RUNNER).exists():
        return tests
    (crate / "src").mkdir(parents=True, exist_ok=True)
    (crate / "src/lib.rs").write_text("")
    (crate / "Cargo.toml").write_text(
        '[package]\nname = "sources"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[dependencies]\nrdkafka-sys = "={VERSION}"\n[workspace]\n')
    run([os.environ.get("CARGO", "cargo"), "vendor", "--quiet"], crate, log)
    run(["./configure", "--disable-gssapi", "--disable-zstd", "--disable-curl", "--disable-lz4-ext"],
        tests.parent, log)
    jobs = f"-j{os.cpu_count() or 1}"
    run(["make", jobs, "-C", "src", "librdkafka.a"], tests.parent, log)
    libraries = ["../src/librdkafka.a"]
    if CXX:
        run(["make", jobs, "-C", "src-cpp", "librdkafka++.a"], tests.parent, log)
        libraries.insert(0, "../src-cpp/librdkafka++.a")
    for name, there, instead in PATCHES:
        text = (tests / name).read_text()
        patched, count = re.subn(there, instead, text)
        if count == 0 and "sizeof" not in text:
            raise RuntimeError(f"{name} has no {there}")
        (tests / name).write_text(patched)
    main = (tests / "test.c").read_text()
    # What is written in C++ is skipped: the others' functions go before these.
    (tests / "stubs.c").write_text('#include "test.h"\n' + "".join(
        f'__attribute__((weak)) int main_{name}(int argc, char **argv) {{ TEST_SKIP("in C++\\n"); return 0; }}\n'
        for name in sorted(set(re.findall(r"^_TEST_DECL\((\w+)\)", main, re.M)))))
    sources = [path.name for path in sorted(tests.glob("[08]*-*.c"))]
    sources += ["test.c", "rusage.c", "sockem.c", "sockem_ctrl.c", "stubs.c"]
    if CXX:
        sources += [path.name for path in sorted(tests.glob("[08]*-*.cpp"))] + ["testcpp.cpp"]
    objects = [pathlib.Path(source).stem + ".o" for source in sources]

    def compile_one(source):
        compiler = [CXX, "-std=c++11", "-I../src-cpp"] if source.endswith(".cpp") else ["cc"]
        run([*compiler, *CFLAGS, "-c", source], tests, log)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(compile_one, sources))
    plugin = "interceptor_test/interceptor_test"
    run(["cc", "-O1", "-w", "-shared", "-fPIC", "-I../src", plugin + ".c", "-o", plugin + ".so"], tests, log)
    run([CXX or "cc", "-rdynamic", "-o", RUNNER, *objects, *libraries,
         "-lm", "-lz", "-lssl", "-lcrypto", "-lpthread", "-ldl"], tests, log)
    return tests


def wanted(tests):
    """The numbers of the tests that are built and need a broker."""
    local = {}
    for name, flags in re.findall(r"^\s+_TEST\((\d{4}_\w+),\s*([^,)]*)", (tests / "test.c").read_text(), re.M):
        local.setdefault(name[:4], []).append("LOCAL" in flags or flags.strip() == "TEST_F_KNOWN_ISSUE")
    in_cpp = set() if CXX else {path.name[:4] for path in tests.glob("[08]*-*.cpp")}
    return [number for number, flags in local.items()
            if number not in in_cpp and number not in LEFT_OUT and not all(flags)]


class Server:
    def __init__(self, template, folder, settings):
        folder.mkdir(parents=True, exist_ok=True)
        self.port, http = free_port(), free_port()
        command = template.replace("{port}", str(self.port)).replace("{http}", str(http))
        command = command.replace("{data}", shlex.quote(str(folder / "data")))
        command += "".join(f" --set {setting}" for setting in settings)
        with open(folder / "server.log", "wb") as log:
            self.process = subprocess.Popen(["sh", "-c", "exec " + command], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not start: see {folder}/server.log")
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def attempts(jobs, numbers, where, folder):
    """Runs these tests beside each other. Many have limits on time that are tight where several share a core: one
    that fails gets another chance with nothing beside it. What came of each."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        outcomes = dict(zip(numbers, pool.map(lambda number: attempt(number, *where, folder), numbers)))
    for number in numbers:
        if outcomes[number][0] == "FAILED":
            outcomes[number] = attempt(number, *where, folder / "alone")
    return list(outcomes.values())


def attempt(number, tests, protocol, scenario, server, tools, folder):
    """Runs one test; what failed, or nothing, and what was skipped."""
    folder = folder / f"{protocol}-{scenario}-{number}"
    folder.mkdir(parents=True)
    (folder / "interceptor_test").symlink_to(tests / "interceptor_test")
    # Some have a producer or consumer in Java at their side, which has been built.
    (folder / "java").symlink_to(tests / "java")
    (folder / "Makefile").write_text(".PHONY: java\njava:\n")
    (folder / "test.conf").write_text(
        f"bootstrap.servers=127.0.0.1:{server.port}\ntest.topic.prefix=rdk\ntest.topic.random=true\n")
    environment = dict(os.environ, TESTS=number, RDKAFKA_TEST_CONF="test.conf", TEST_KAFKA_VERSION=KAFKA,
                       TEST_SCENARIO=scenario, TEST_CONSUMER_GROUP_PROTOCOL=protocol, KAFKA_PATH=str(tools),
                       BROKERS=f"127.0.0.1:{server.port}")
    # There they wait three times as long.
    environment.pop("CI", None)
    started = time.monotonic()
    with open(folder / "log", "wb") as log:
        child = subprocess.Popen([tests / RUNNER, "-p1", "-L"], cwd=folder, env=environment, stdout=log,
                                 stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            code = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code = f"none after {SECONDS} s"
    text = re.sub(r"\x1b\[[0-9;]*m", "", (folder / "log").read_text(errors="replace"))
    passed = re.findall(rf"^\| ({number}_\w+) *\| *PASSED", text, re.M)
    word = "passed" if code == 0 and passed else "skipped" if code == 0 else "FAILED"
    print(f"{protocol:<9} {scenario:<13} {number} {word} {time.monotonic() - started:.0f} s", file=sys.stderr)
    return word, f"{number} ({protocol}, {scenario}): exit {code}, log in {folder}"


def kafka(folder, tests, classpath, log):
    """Some tests call `bin/kafka-topics.sh`, or run classes of their own beside Apache Kafka's client."""
    home = folder / "kafka"
    (home / "bin").mkdir(parents=True)
    jars = shlex.quote(classpath)
    for name, run_java in [("kafka-topics.sh", f"java -cp {jars} {TOPICS_TOOL}"),
                           ("kafka-run-class.sh", f'java -cp "$CLASSPATH":{jars}')]:
        script = home / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {run_java} "$@"\n')
        script.chmod(0o755)
    (home / "libs").symlink_to(pathlib.Path(classpath).parent.resolve())
    run(["make", "-s", "-C", "java", f"KAFKA_PATH={home}"], tests, log)
    return home


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--classpath", required=True)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--test", action="append", default=[])
    parser.add_argument("--quick", action="store_true", help="those that say most in a few minutes")
    parser.add_argument("server")
    options = parser.parse_args()
    options.cache, options.folder = options.cache.resolve(), options.folder.resolve()
    options.cache.mkdir(parents=True, exist_ok=True)
    tests = build(options.cache, options.folder / "build.log")
    tools = kafka(options.folder, tests, options.classpath, options.folder / "build.log")
    # What statistics look like.
    (options.folder / "alone").mkdir()
    for folder in [options.folder, options.folder / "alone"]:
        (folder / "src").symlink_to(tests.parent / "src")
    outcomes = []
    for protocol in ["classic", "consumer"]:
        plans = [("default", wanted(tests), []),
                 ("noautocreate", NO_TOPICS[protocol], ["auto.create.topics.enable=false"])]
        for scenario, numbers, settings in plans:
            if options.quick:
                numbers = [one for one in numbers if (one in CONSUMER if protocol == "consumer" else one not in SLOW)]
            numbers = [number for number in numbers if not options.test or number in options.test]
            server = Server(options.server, options.folder / f"{protocol}-{scenario}", SETTINGS + settings)
            try:
                where = (tests, protocol, scenario, server, tools)
                outcomes += attempts(options.jobs, numbers, where, options.folder)
            finally:
                code = server.stop()
            if code != 0:
                outcomes.append(("FAILED", f"the server did not stop well ({protocol}, {scenario})"))
    count = {word: sum(one == word for one, _ in outcomes) for word in ["passed", "FAILED", "skipped"]}
    print(json.dumps({
        "result": "pass" if count["passed"] and not count["FAILED"] else "fail",
        "reason": "\n".join(what for word, what in outcomes if word == "FAILED"),
        "data": f"{count['passed']} passed, {count['skipped']} skipped by themselves",
    }))


main()
