"""An HTTP server that keeps what is posted to it, and fails as the file `control` beside it says.

    python3 webhook.py PORT FOLDER [CERT KEY CLIENT_CA]

Each accepted request becomes a line of FOLDER/requests: a JSON object with its headers and its body in base64, written
before the answer. FOLDER/control, read at each request, is a JSON object:

    status       answered instead of 204, and nothing is kept
    retry_after  the header of that answer
    delay        seconds before any answer
    unwanted     a request whose body holds this text is answered with 422
    forget       keep the request and close the connection without an answer
"""

import base64
import http.server
import json
import pathlib
import ssl
import sys
import threading
import time

port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        control = json.loads((folder / "control").read_text() or "{}")
        time.sleep(control.get("delay", 0))
        status = control.get("status", 204)
        if status == 204 and control.get("unwanted", "\0nothing").encode() in body:
            status = 422
        with lock, open(folder / "attempts", "a") as attempts:
            attempts.write(json.dumps({"at": time.time(), "id": self.headers["webhook-id"], "status": status}) + "\n")
        if status == 204:
            request = {
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": base64.b64encode(body).decode(),
            }
            with lock, open(folder / "requests", "a") as requests:
                requests.write(json.dumps(request) + "\n")
        if control.get("forget"):
            self.close_connection = True
            return
        words = b"" if status == 204 else b"no, because"
        self.send_response(status)
        if "retry_after" in control:
            self.send_header("retry-after", control["retry_after"])
        if status != 204:
            self.send_header("content-length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    context.load_verify_locations(sys.argv[5])
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
