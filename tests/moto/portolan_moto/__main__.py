"""Serves moto on 127.0.0.1 until stdin closes. Usage: python -m portolan_moto [PORT]

Prints {"port": N} when it listens. POST /portolan/health with group, state (unhealthy, healthy or
empty for automatic) and perhaps id and port, sets what DescribeTargetHealth says.
"""

import json
import logging
import sys
import threading
import urllib.parse

from moto.elbv2.models import elbv2_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from . import ec2, elbv2

ONE_AT_A_TIME = threading.Lock()  # moto's backends know no concurrency: check and act are two steps


def set_health(form):
    region, account = form["group"].split(":")[3:5]
    group = elbv2_backends[account][region].target_groups[form["group"]]
    chosen = group
    if "id" in form:
        chosen = group.members[form["id"], int(form.get("port") or group.port)]
    chosen.forced = form["state"] or None


def app(moto):
    def serve(environ, start_response):
        with ONE_AT_A_TIME:
            if environ["PATH_INFO"] != "/portolan/health":
                return list(moto(environ, start_response))
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body = environ["wsgi.input"].read(length).decode()
            try:
                set_health(dict(urllib.parse.parse_qsl(body, keep_blank_values=True)))
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b""]
            except KeyError as missing:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [f"no {missing}".encode()]

    return serve


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ec2.extend()
    elbv2.extend()
    moto = DomainDispatcherApplication(create_backend_app)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = make_server("127.0.0.1", port, app(moto), True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
