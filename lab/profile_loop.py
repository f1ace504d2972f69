"""Asks a decode loop (`lab.decode_loop`) for a profile, as the program that ``rca collect`` records beside it.

``rca collect -o OUT --pid LOOP --duration 9 -- python -P -m lab.profile_loop PORT --steps 32 --after 3 --for 9``
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from collectors.command import TRACES_VARIABLE
from collectors.server import Server, ServerError

_WRITE_SECONDS = 600.0
"""Loops answer when the trace is written."""


def main() -> None:
    """Wait, ask for the profile, and stay until the time is up."""
    began = time.monotonic()
    arguments = _parser().parse_args()
    folder = os.environ.get(TRACES_VARIABLE)
    if not folder:
        print(f"{TRACES_VARIABLE} is not set: run this as the command of `rca collect`", file=sys.stderr)
        sys.exit(2)
    time.sleep(arguments.after)
    asked = {
        "folder": folder,
        "steps": arguments.steps,
        "with_stack": arguments.with_stack,
        "record_shapes": arguments.record_shapes,
    }
    try:
        reply = Server(f"http://127.0.0.1:{arguments.port}").post("/profile", asked, _WRITE_SECONDS)
    except ServerError as error:
        print(f"the loop does not answer: {error}", file=sys.stderr)
        sys.exit(1)
    if reply.status != 200:
        said = " ".join(reply.body[:200].decode(errors="replace").split())
        print(f"the loop on port {arguments.port} wrote no profile: HTTP {reply.status}: {said}", file=sys.stderr)
        sys.exit(1)
    time.sleep(max(0.0, began + arguments.seconds - time.monotonic()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=_port)
    parser.add_argument("--steps", type=int, default=32, help="of the loop to profile")
    parser.add_argument("--after", type=_seconds, default=3.0, metavar="SECONDS", help="ask so long after the start")
    parser.add_argument("--for", type=_seconds, default=9.0, metavar="SECONDS", dest="seconds", help="stay so long")
    parser.add_argument("--with-stack", action="store_true", help="record Python frames")
    parser.add_argument("--record-shapes", action="store_true", help="record shapes of operators' arguments")
    return parser


def _port(text: str) -> int:
    if not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError("is from 1 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 86_400:
        raise argparse.ArgumentTypeError("is from 0 to 86400")
    return number


if __name__ == "__main__":
    main()
