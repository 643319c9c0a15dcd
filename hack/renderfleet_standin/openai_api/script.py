"""Writes a short spoken script from a wish, always the same one for the same wish. No model: a frame and the wish's words."""

import hashlib
import re

OPENERS = [
    "Hello, and thank you for being here.",
    "Hi there, it is good to see you.",
    "Welcome! Make yourself comfortable.",
    "Good day, and a warm welcome.",
]
LEADS = [
    "Today I would like to tell you about {topic}.",
    "In the next moments we will look at {topic}.",
    "Let me take you along to {topic}.",
    "There is something worth sharing with you: {topic}.",
]
MIDDLES = [
    "What makes it special are the small details that are easily overlooked.",
    "People who know it well say that it gets better with every visit.",
    "It began as a simple idea, and it has grown step by step ever since.",
    "You need no preparation at all, only a little curiosity.",
    "Take your time, look around, and ask whatever comes to your mind.",
    "Behind it stands a team that cares about every single part.",
]
CLOSERS = [
    "Thank you for listening, and see you soon.",
    "Enjoy it, and do come back.",
    "That is all for now. Take care.",
    "If you have a question, I am always glad to help.",
]

_INSTRUCTION = re.compile(
    r"^(please\s+)?((write|create|make|give me|prepare|draft|generate)\s+)?"
    r"((a|an|the)\s+)?(\w+[- ]){0,3}?(script|text|speech|message|greeting|monologue|voiceover|narration)\s+(about|on|for|of|to)\s+",
    re.IGNORECASE,
)


def topic_of(wish: str) -> str:
    """What the wish is about, without "write a script about" and without the last full stop."""
    line = " ".join(wish.split())
    line = _INSTRUCTION.sub("", line)
    line = re.split(r"(?<=[.!?])\s", line)[0].rstrip(".!? ")
    return line[:160].rsplit(" ", 1)[0] if len(line) > 160 else line or "a small surprise"


def write_script(wish: str) -> str:
    """About fifty words to speak aloud."""
    digest = hashlib.sha256(wish.encode()).digest()
    topic = topic_of(wish)
    topic = topic[0].lower() + topic[1:] if topic[1:2].islower() else topic
    first = digest[2] % len(MIDDLES)
    second = (first + 1 + digest[3] % (len(MIDDLES) - 1)) % len(MIDDLES)
    return " ".join(
        [
            OPENERS[digest[0] % len(OPENERS)],
            LEADS[digest[1] % len(LEADS)].format(topic=topic),
            MIDDLES[first],
            MIDDLES[second],
            CLOSERS[digest[4] % len(CLOSERS)],
        ]
    )
