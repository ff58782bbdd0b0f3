"""An issuer of tokens at a URL, as OpenID Connect has it, for librdkafka's own tests: `millstream cert token` signs."""

import base64
import http.server
import json
import subprocess
import threading
import urllib.parse

CLIENT, SECRET = "client", "a secret"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# What the metadata service of a cloud has to be asked with.
METADATA = {"api-version", "resource", "client_id"}
# So short that a client renews it while a test runs.
SECONDS = 10


class Issuer:
    """At `valid` it gives tokens to who is to have them, at `expired` one that was good for a second, and elsewhere nothing."""

    def __init__(self, program, user, certs):
        self.words = [program, "cert", "token", user, "--dir", certs]
        self.expired = self.token(1)
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                self.answer(METADATA <= set(asked) and self.headers["Metadata"] == "true")

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                said = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
                if said.get("grant_type") == JWT_BEARER:
                    self.answer(said.get("scope") != "invalid_scope" and is_by_rsa(said["assertion"]))
                else:
                    credentials = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
                    self.answer(self.headers["Authorization"] == f"Basic {credentials}")

            def answer(self, granted):
                where = urllib.parse.urlsplit(self.path).path
                tokens = {"/valid": lambda: issuer.token(SECONDS), "/expired": lambda: issuer.expired}
                if granted and where in tokens:
                    self.send(200, {"access_token": tokens[where](), "token_type": "Bearer"})
                else:
                    self.send(400, {"error": "invalid_request"})

            def send(self, status, document):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, seconds):
        made = subprocess.run([*self.words, "--seconds", str(seconds)], capture_output=True, check=True, text=True)
        return made.stdout.strip()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}/{path}"


def is_by_rsa(assertion):
    header = assertion.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["alg"] == "RS256"
