"""What a customer writes on top of a generated client: submit, wait, list, and look at a refusal."""

import json
import sys
import time

from fleet_client import AuthenticatedClient
from fleet_client.api.jobs import get_job, list_jobs, submit_many
from fleet_client.api.voice import create_voice
from fleet_client.models import AvatarPreviewItem, BulkRequest, Job, ProblemBody, VoiceItem, VoiceRequest

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
made = create_voice.sync(client=client, body=VoiceRequest(text="Hello", voice_id="anna"), idempotency_key="once")
assert isinstance(made, Job), made
print(made.id, flush=True)
while (job := get_job.sync(made.id, client=client)).status != "Succeeded":
    time.sleep(0.1)
listed = list_jobs.sync(client=client, kind="VoiceJob", limit=5)
refused = create_voice.sync(client=client, body=VoiceRequest(voice_id="anna"))
assert isinstance(refused, ProblemBody), refused
items = [
    VoiceItem(kind="VoiceJob", text="Hi", voice_id="anna"),
    AvatarPreviewItem(kind="AvatarRender", prompt="a face"),
]
many = submit_many.sync(client=client, body=BulkRequest(items=items))
told = {
    "progress": job.progress,
    "result": job.result_url,
    "output": job.outputs[0].name,
    "listed": [one.id for one in listed.items],
    "many": [one.job.kind for one in many.results],
    "code": refused.code,
    "errors": [one.message for one in refused.errors],
}
print(json.dumps(told))
