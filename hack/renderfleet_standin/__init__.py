"""A server that stands in for OpenAI, ElevenLabs and D-ID: their wire protocols, real media, a ledger, scripted faults.

Nothing here imports the rest of RenderFleet: a stand-in that shared our client code would agree with our mistakes.
"""
