"""Starts the stand-in: settings from the environment, overridden by the command line."""

import argparse
import logging
from pathlib import Path
from typing import Any

import uvicorn

from renderfleet_standin.app import create_app
from renderfleet_standin.settings import StandinSettings
from renderfleet_standin.transport import Protocol

ABOUT = """\
Stands in for OpenAI, ElevenLabs and D-ID on one port: the vendors' wire protocols, real pictures, speech and video,
a ledger of what would have been billed, and faults on demand. Needs ffmpeg and espeak-ng.
"""

TEACH = """\
Base URLs for a stand-in on port 8099:
  OpenAI       http://127.0.0.1:8099/openai/v1     key  sk-standin
  ElevenLabs   http://127.0.0.1:8099/elevenlabs    key  el-standin
  D-ID         http://127.0.0.1:8099/did           key  did-user:did-pass

Try it:
  curl -s localhost:8099/openai/v1/images/generations -H 'authorization: Bearer sk-standin' \\
       -H 'content-type: application/json' -d '{"model":"gpt-image-2.6-flare","prompt":"a friendly guide"}' \\
       | python3 -c 'import base64,json,sys; open("face.png","wb").write(base64.b64decode(json.load(sys.stdin)["data"][0]["b64_json"]))'
  curl -s localhost:8099/elevenlabs/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM -H 'xi-api-key: el-standin' \\
       -d '{"text":"Welcome aboard."}' -o welcome.mp3

What was billed:    http://127.0.0.1:8099/_standin/          (JSON: /_standin/ledger, /_standin/calls)
Break the next call:
  curl -s localhost:8099/_standin/faults -H 'content-type: application/json' \\
       -d '{"vendor":"openai","operation":"images.generations","fault":"429_rate_limit","times":2}'
All faults there are: GET /_standin/faults.  Stop calls after billing: POST /_standin/hold, then /_standin/release.
Base latency: POST /_standin/latency.  Rate limits: GET and POST /_standin/limits.  Fresh start: POST /_standin/reset.

Environment (every setting has a name there):
"""


def _environment_help() -> str:
    lines: list[str] = []
    for name, field in StandinSettings.model_fields.items():
        lines.append(f"  RENDERFLEET_STANDIN_{name.upper()}={field.get_default() if field.default is not None else ''}")
        lines.append(f"      {field.description}")
    return "\n".join(lines)


def _arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m renderfleet_standin",
        description=ABOUT,
        epilog=TEACH + _environment_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on")
    parser.add_argument("--data", dest="data", type=Path, metavar="DIR", help="keep ledger, talks and media here")
    parser.add_argument("--talk-seconds", type=float, help="shortest time from a talk's creation to its end")
    parser.add_argument("--relaxed", dest="strict", action="store_false", help="let D-ID fetch http URLs too")
    parser.add_argument("--tls-cert", type=Path, metavar="PEM", help="serve https with this certificate")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="private key of the certificate")
    return vars(parser.parse_args())


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = StandinSettings(**_arguments())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=Protocol,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
