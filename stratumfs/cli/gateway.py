"""stratum-gateway(8): serve a store over S3."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stratumfs.cli import command
from stratumfs.cli.exit import Exit
from stratumfs.cli.hold import wait_for_end
from stratumfs.cli.parameters import StoreOrDefault
from stratumfs.config import check_domain, check_tls, parse_listen
from stratumfs.owner import client, credentials, locate
from stratumfs.owner.messages import STDERR, OpenGateway

NAME = "stratum-gateway"

app = command.make_app(
    NAME,
    f"Usage: {NAME} [OPTIONS] [STORE]",
    "Serve a store over S3, mounted or not. Stays in the foreground, and ends cleanly when interrupted.\n\n"
    "Keys come from STRATUM_ACCESS_KEY_ID and STRATUM_SECRET_ACCESS_KEY, else from the store's file `credentials`.",
    """
    stratum-gateway /srv/store
    stratum-gateway --listen 0.0.0.0:9000 --listen '[::]:9000' /srv/store
    stratum-gateway --daemon --tls-cert s3.pem --tls-key s3.key /srv/store
""",
)


@app.default
def gateway(
    store: StoreOrDefault = None,
    /,
    *,
    listen: Annotated[
        list[str] | None,
        Parameter(name="--listen", negative="", consume_multiple=False, help="HOST:PORT; may be given again."),
    ] = None,
    tls_cert: Annotated[Path | None, Parameter(name="--tls-cert", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, Parameter(name="--tls-key", help="Its private key, PEM.")] = None,
    domain: Annotated[
        list[str] | None,
        Parameter(
            name="--domain",
            negative="",
            consume_multiple=False,
            help="BUCKET.DOMAIN addresses a bucket; may be given again.",
        ),
    ] = None,
    daemon: Annotated[
        bool, Parameter(name=["-d", "--daemon"], negative="", help="Return when the gateway answers.")
    ] = False,
    log: Annotated[
        Path | None, Parameter(name="--log", help="Write the log to this file instead of the journal.")
    ] = None,
) -> Exit:
    """Called by cyclopts with what was typed."""
    for address in listen or []:
        parse_listen(address)
    for name in domain or []:
        check_domain(name)
    check_tls(_text(tls_cert), _text(tls_key))
    request = OpenGateway(
        listen=tuple(listen or ()),
        tls_certificate=_text(tls_cert),
        tls_key=_text(tls_key),
        domains=tuple(domain or ()),
        credentials=credentials.from_environment(os.environ),
        hold=not daemon,
    )
    folder = locate.store_folder(store if store is not None else locate.default_folder())
    destination = log.absolute() if log is not None else None if daemon else STDERR
    owner, result = client.ask(
        folder, request, start_owner=True, log=destination, report=lambda text: command.complain(NAME, text)
    )
    with owner:
        already = "already " if result["already"] else ""
        said = f"{NAME}: {folder} is {already}served at {', '.join(result['where'])}"
        if not daemon:
            return wait_for_end(owner, NAME, said)
        print(said)
        return Exit.OK


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def main(arguments: list[str] | None = None) -> None:
    command.run(app, arguments)
