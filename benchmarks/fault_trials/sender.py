"""Send exports until standard input ends, trying again as OTLP says, and print what was acknowledged.

Run as ``python -m fault_trials.sender PLANS``, a JSON list of plans; each is a thread. The last line that it prints is
a JSON object: ``requests``, one list (seconds, milliseconds, signal, sender, number, count) for each request that was
acknowledged, and ``answers``, how often each answer came.
"""

import functools
import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from fault_trials.exits import ACKNOWLEDGED, RETRYABLE, Answer, Exit, GrpcExit, HttpExit
from fault_trials.payloads import JSON, PROTOBUF, Template
from fault_trials.timetable import LAST_TRIES_SECONDS, Plan, Requests

_template = functools.cache(Template)
_MEDIA = {"http": PROTOBUF, "http_gzip": PROTOBUF, "http_json": JSON}


@dataclass
class Tally:
    """What a thread did; the main one reads it when all have ended."""

    requests: Requests = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


def run(plan: Plan, tally: Tally, ending: threading.Event) -> None:
    """Send request after request; after the end only the last one is tried on, where the plan is to be stubborn."""
    template = _template(plan.signal, _MEDIA.get(plan.protocol, PROTOBUF), plan.count)
    door = _exit(plan)
    number, due = 0, time.monotonic()
    while not ending.is_set():
        body = template.body(plan.sender, number)
        began = time.monotonic()
        answer = _until_answered(plan, door, body, tally.answers, ending)
        now = time.monotonic()
        if answer.word == ACKNOWLEDGED:
            spent = round(1000 * (now - began), 2)
            tally.requests.append((round(now, 4), spent, plan.signal, plan.sender, number, plan.count))
        number += 1
        due = max(due + plan.interval, now - plan.interval)
        ending.wait(max(0.0, due - now))


def _until_answered(plan: Plan, door: Exit, body: bytes, answers: Counter[str], ending: threading.Event) -> Answer:
    ended = None
    pause = threading.Event()
    while True:
        answer = door.send(body)
        answers[answer.word] += 1
        if answer.word not in RETRYABLE:
            return answer
        if ending.is_set():
            ended = ended or time.monotonic()
            if not plan.stubborn or time.monotonic() - ended > LAST_TRIES_SECONDS:
                return answer
        pause.wait(min(plan.longest_wait, 0.1 if answer.retry_after is None else answer.retry_after))


def _exit(plan: Plan) -> Exit:
    if plan.protocol == "grpc":
        return GrpcExit(plan.address, plan.signal, limit=plan.limit)
    zipped = plan.protocol == "http_gzip"
    return HttpExit(plan.address, plan.signal, _MEDIA[plan.protocol], zipped=zipped, limit=plan.limit)


def main() -> None:
    ending = threading.Event()
    plans = [Plan(**plan) for plan in json.loads(sys.argv[1])]
    for plan in plans:
        _template(plan.signal, _MEDIA.get(plan.protocol, PROTOBUF), plan.count)
    tallies = [Tally() for _ in plans]
    threads = [
        threading.Thread(target=run, args=(plan, tally, ending)) for plan, tally in zip(plans, tallies, strict=True)
    ]
    for thread in threads:
        thread.start()
    print("sending", flush=True)
    sys.stdin.read()
    ending.set()
    for thread in threads:
        thread.join()
    answers: Counter[str] = Counter()
    for tally in tallies:
        answers.update(tally.answers)
    print(json.dumps({"requests": [request for tally in tallies for request in tally.requests], "answers": answers}))


if __name__ == "__main__":
    main()
