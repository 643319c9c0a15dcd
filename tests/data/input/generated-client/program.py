"""What a customer writes on top of a generated client: submit, wait, list, and look at a refusal."""

import json
import sys
import time

from fleet_client import AuthenticatedClient
from fleet_client.api.jobs import get_job, list_jobs
from fleet_client.api.voice import create_voice
from fleet_client.models import Job, ProblemBody, VoiceRequest

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
made = create_voice.sync(client=client, body=VoiceRequest(text="Hello", voice_id="anna"), idempotency_key="once")
assert isinstance(made, Job), made
print(made.id, flush=True)
while (job := get_job.sync(made.id, client=client)).status != "Succeeded":
    time.sleep(0.1)
listed = list_jobs.sync(client=client, kind="VoiceJob", limit=5)
refused = create_voice.sync(client=client, body=VoiceRequest(voice_id="anna"))
assert isinstance(refused, ProblemBody), refused
told = {
    "progress": job.progress,
    "result": job.result_url,
    "output": job.outputs[0].name,
    "listed": [one.id for one in listed.items],
    "code": refused.code,
    "errors": [one.message for one in refused.errors],
}
print(json.dumps(told))
