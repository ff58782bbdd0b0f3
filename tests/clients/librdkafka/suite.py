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
import zlib

VERSION = "4.10.0"
# The version of Apache Kafka whose behaviour the tests are to expect.
KAFKA = "4.1.0"
TOOLS = {"kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
         "kafka-acls.sh": "org.apache.kafka.tools.AclCommand"}

# Beyond those that need no broker, and those that skip themselves.
LEFT_OUT = {
    "0077": "compacts a log of 10 kB segments within seconds",
    "0097": "is among SECURE",
    "0101": "needs three brokers",
    "0126": "needs a token endpoint, and libcurl",
    "0135": "is among SECURE",
    "0142": "is among SECURE",
    "8000": "waits for somebody to end it",
    "8001": "waits for somebody to end it",
}
# Tests of another scenario: a server without automatic topics. There 0045 expects all partitions to be assigned
# anew, which is what the classic protocol does.
NO_TOPICS = {"classic": ["0045", "0107", "0111"], "consumer": ["0107", "0111"]}

# Where one has to log in, by what it takes: what is about that, and, but for --quick, some of the others.
SECURE = {"sasl": ["0135", "0142"], "tls": ["0097"]}
SECURE_TOO = ["0011", "0012", "0018", "0033", "0039", "0041", "0050", "0061", "0086", "0103", "0129"]

# With --quick: in the classic protocol all but the slow ones (and three that measure time), in the consumer
# protocol those to which the protocol matters.
SLOW = {"0026", "0055", "0059", "0076", "0081", "0089", "0091", "0093", "0094", "0098", "0113", "0122", "0119", "0127", "0137", "0139", "0150"}
CONSUMER = {"0012", "0015", "0018", "0022", "0029", "0030", "0031", "0033", "0034", "0036", "0041", "0042", "0049", "0050",
            "0051", "0056", "0061", "0064", "0068", "0069", "0085", "0088", "0099", "0102", "0107", "0109", "0111",
            "0112", "0118", "0123", "0129", "0130", "0137", "0153"}

# What of a test can't be asked for, or not of Apache Kafka 4 either: file, what is there, what is built.
PATCHES = [
    # What a client is told that shows no certificate (RFC 8446 section 4.4.2.4); Java says bad_certificate.
    ("0097-ssl_verify.cpp", '"alert number 42"', '"alert number 116"'),
    # Where there is one broker, that its connection has ended is an error of its own.
    ("0097-ssl_verify.cpp", r"(event\.err\(\) != RdKafka::)ERR__ALL_BROKERS_DOWN\)",
     r"\1ERR__ALL_BROKERS_DOWN && \1ERR__TRANSPORT)"),
    # 15 s of it are the test's own, and it starts four Java programs.
    ("0119-consumer_auth.cpp", r"conf_init\(&conf, NULL, 20\)", "conf_init(&conf, NULL, 60)"),
    ("0129-fetch_aborted_msgs.c", '"segment.bytes", "20000"', '"segment.bytes", "1048576"'),
]

# Some tests expect members that come at once to be in the first generation together.
SETTINGS = ["group.initial.rebalance.delay.ms=500", "group.consumer.min.heartbeat.interval.ms=1",
            "group.consumer.min.session.timeout.ms=1"]
# Some make rules of who may do what. What no rule speaks of is everybody's.
SETTINGS += ["authorizer.class.name=standard", "super.users=User:admin", "allow.everyone.if.no.acl.found=true"]
KAFKA_LISTEN = "--kafka-listen 127.0.0.1:{port}"
USER, PASSWORD = "rdkafka", "a password"
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
    # What is built depends on what is changed before.
    crate = cache / f"crate-{VERSION}-{zlib.crc32(repr(PATCHES).encode()):08x}"
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
        if count == 0:
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


class Door:
    """How one logs in, by SASL or by a certificate, both over TLS: what a server and its clients need."""

    def __init__(self, kind, program, folder):
        self.kind, self.certs = kind, folder / "certs"
        self.program, self.folder = program, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.own("cert", "server", "--dir", self.certs)
        self.own("cert", "client", USER, "--dir", self.certs)
        self.shown = self.certs / f"client-{USER}.pem"
        if kind == "sasl":
            (folder / "password").write_text(PASSWORD)
            self.own("user", "add", USER, "--data-dir", folder / "data", "--password-file", folder / "password")
        else:
            self.convert()

    def own(self, *words):
        run([self.program, *words], None, self.folder / "setup.log")

    def convert(self):
        """The certificate in every form that there is."""
        ca, shown, openssl = self.certs / "ca.pem", self.shown, lambda *words: run(
            ["openssl", *words], self.certs, self.folder / "setup.log")
        openssl("pkcs12", "-export", "-in", shown, "-inkey", shown, "-certfile", ca, "-passout", f"pass:{PASSWORD}",
                "-out", "client.p12")
        openssl("x509", "-in", shown, "-outform", "DER", "-out", "client.der")
        openssl("pkey", "-in", shown, "-outform", "DER", "-out", "key.der")
        openssl("x509", "-in", ca, "-outform", "DER", "-out", "ca.der")

    def listeners(self):
        """Instead of the listener in plain text."""
        protocol = "SASL_SSL" if self.kind == "sasl" else "SSL"
        return f"--set listeners={protocol}://127.0.0.1:{{port}}"

    def settings(self):
        settings = [f"ssl.keystore.location={self.certs}/server.pem"]
        if self.kind == "sasl":
            return settings + ["connections.max.reauth.ms=6000"]
        # With TLS 1.3 a bad certificate is told of after the handshake, and 0097 looks for an error of that.
        return settings + [f"ssl.truststore.location={self.certs}/ca.pem", "ssl.client.auth=required",
                           "ssl.enabled.protocols=TLSv1.2"]

    def conf(self):
        """What is in a test's `test.conf`."""
        conf = f"ssl.ca.location={self.certs}/ca.pem\n"
        if self.kind == "sasl":
            return conf + (f"security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-256\nsasl.username={USER}\n"
                           f"sasl.password={PASSWORD}\n")
        return conf + (f"security.protocol=SSL\nssl.certificate.location={self.shown}\n"
                       f"ssl.key.location={self.shown}\nssl.key.password={PASSWORD}\n")

    def environment(self):
        """Where 0097 finds the certificate in every form."""
        if self.kind == "sasl":
            return {}
        files = {"pkcs": "client.p12", "pub_der": "client.der", "priv_der": "key.der", "ca_der": "ca.der",
                 "ca_pem": "ca.pem", "all_cas_pem": "ca.pem", "pub_pem": self.shown.name, "priv_pem": self.shown.name}
        return {f"SSL_{name}": str(self.certs / file) for name, file in files.items()} | {"SSL_password": PASSWORD}


class Server:
    def __init__(self, template, folder, settings, door=None):
        folder.mkdir(parents=True, exist_ok=True)
        self.port, http = free_port(), free_port()
        self.door = door
        if door:
            template, settings = template.replace(KAFKA_LISTEN, door.listeners()), settings + door.settings()
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
    (folder / "fixtures").symlink_to(tests / "fixtures")
    (folder / "Makefile").write_text(".PHONY: java\njava:\n")
    (folder / "test.conf").write_text(
        f"bootstrap.servers=127.0.0.1:{server.port}\ntest.topic.prefix=rdk\ntest.topic.random=true\n"
        + (server.door.conf() if server.door else ""))
    environment = dict(os.environ, TESTS=number, RDKAFKA_TEST_CONF="test.conf", TEST_KAFKA_VERSION=KAFKA,
                       TEST_SCENARIO="default" if server.door else scenario, TEST_CONSUMER_GROUP_PROTOCOL=protocol, KAFKA_PATH=str(tools),
                       BROKERS=f"127.0.0.1:{server.port}", **(server.door.environment() if server.door else {}))
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
    """Some tests call `bin/kafka-topics.sh` and the like, or run classes of their own beside Apache Kafka's client."""
    home = folder / "kafka"
    (home / "bin").mkdir(parents=True)
    jars = shlex.quote(classpath)
    scripts = {name: f"java -cp {jars} {tool}" for name, tool in TOOLS.items()}
    for name, run_java in {**scripts, "kafka-run-class.sh": f'java -cp "$CLASSPATH":{jars}'}.items():
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
        # Logging in has nothing to do with the protocol of groups.
        if protocol == "classic" and KAFKA_LISTEN in options.server:
            plans += [(kind, numbers + ([] if options.quick else SECURE_TOO), []) for kind, numbers in SECURE.items()]
        for scenario, numbers, settings in plans:
            if options.quick:
                numbers = [one for one in numbers if (one in CONSUMER if protocol == "consumer" else one not in SLOW)]
            numbers = [number for number in numbers if not options.test or number in options.test]
            folder = options.folder / f"{protocol}-{scenario}"
            door = Door(scenario, options.server.split()[0], folder) if scenario in SECURE else None
            server = Server(options.server, folder, SETTINGS + settings, door)
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
