#!/usr/bin/env python3
"""A complete Jobcast worker in one file, with nothing but Python's standard library.

    export JOBCAST_URL=http://127.0.0.1:3001 JOBCAST_KEY=<an API key with the scope "work">
    python3 examples/worker.py

It does jobs of the kind "words": it counts the words of `input.text`, paragraph by paragraph. Copy `Jobcast` and `Job`
into your own pipeline, and write your own `work(job)`.

What every worker should do, and these classes do for it:
  * keep the lease with heartbeats from a thread of its own, and stop when they say pause or cancel;
  * send each report under an id of its own, so that it may be sent again when an answer was lost;
  * wait for a server that is away, and go on where it stood.
"""

import argparse
import http.client
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid


class Refused(Exception):
    """The server said no; `code` is the word that programs compare."""

    def __init__(self, status, error):
        super().__init__(error.get("message", f"HTTP {status}"))
        self.status, self.code = status, error.get("code", "")


class Stop(Exception):
    """The job is not to be gone on with: `why` is pause, cancel, lost or shutdown."""

    def __init__(self, why):
        super().__init__(why)
        self.why = why


class Fail(Exception):
    """The work went wrong; `retry` says whether another attempt may help."""

    def __init__(self, error, retry=True):
        super().__init__(error)
        self.retry = retry


class Jobcast:
    """A connection to the worker API."""

    def __init__(self, url, key=None, worker=None, patience=300):
        self.url, self.key, self.patience = url.rstrip("/"), key, patience
        self.worker = worker or f"{socket.gethostname()}-{os.getpid()}"
        self.stopping = threading.Event()

    def call(self, method, path, body=None, data=None, content_type="application/json", timeout=40, raw=False):
        """One request; sent again while the server is away, for `patience` seconds at the most."""
        if body is not None:
            data = json.dumps(body).encode()
        headers = {"Content-Type": content_type, "Accept": "*/*"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        pause, until = 0.2, time.monotonic() + self.patience
        while True:
            request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=timeout) as answer:
                    content = answer.read()
                    is_json = answer.headers.get_content_type() == "application/json"
                    return json.loads(content) if is_json and content and not raw else content
            except urllib.error.HTTPError as refused:
                content = refused.read()
                if refused.code not in (429, 502, 503, 504) or time.monotonic() > until:
                    try:
                        error = json.loads(content).get("error", {})
                    except (ValueError, AttributeError):
                        error = {}
                    raise Refused(refused.code, error) from None
            except (OSError, http.client.HTTPException):
                if time.monotonic() > until:
                    raise
            # Spread, so that many workers do not come back in the same instant.
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 10)

    def register(self, kind, **rules):
        return self.call("PUT", f"/v1/kinds/{kind}", rules)

    def claim(self, kinds, wait=10):
        """The next job, or None if there was none for `wait` seconds."""
        claimed = self.call("POST", "/v1/work/claim", {"kinds": kinds, "worker": self.worker, "wait": wait})
        return Job(self, claimed) if claimed else None

    def run(self, kinds, work, once=False):
        """Claims jobs and does them with `work(job)`, until told to stop. What `work` returns is the result."""
        while not self.stopping.is_set():
            job = self.claim(kinds)
            if job is None:
                continue
            with job:
                try:
                    job.finish(work(job) or {})
                except Stop as stop:
                    if stop.why in ("pause", "shutdown"):
                        job.release()
                except Fail as failure:
                    job.fail(str(failure), failure.retry)
                except Refused as refused:
                    if refused.code not in ("fenced", "job_ended"):
                        job.fail(str(refused))
                except Exception as error:  # whatever went wrong is the job's error, not the worker's end
                    job.fail(f"{type(error).__name__}: {error}")
            if once:
                return


class Job:
    """A job that this worker has. Inside of `with`, a thread keeps its lease."""

    def __init__(self, server, claimed):
        self.server, self.claimed = server, claimed
        self.id, self.fence = claimed["job"]["id"], claimed["fence"]
        self.name, self.attempt = claimed["job"]["name"], claimed["attempt"]
        self.input, self.document = claimed["input"], claimed["document"]
        self.artifacts = {artifact["name"]: artifact for artifact in claimed["artifacts"]}
        self.state, self.done = "run", threading.Event()

    def __enter__(self):
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.done.set()

    def _beat(self):
        while not self.done.wait(self.claimed["lease"] / 3):
            try:
                self.state = self._post("heartbeat", {})["state"]
            except Refused as refused:
                if refused.code in ("fenced", "job_not_found"):
                    self.state = "lost"
                    return
            except OSError:
                pass  # the server is away; the lease tells whether it was for too long

    def _post(self, what, body):
        return self.server.call("POST", f"/v1/work/{self.id}/{what}", {"fence": self.fence, **body})

    def check(self):
        """Raises Stop if the job was paused, cancelled or lost, or this worker is to end. Call it between steps."""
        if self.server.stopping.is_set():
            raise Stop("shutdown")
        if self.state != "run":
            raise Stop(self.state)

    def report(self, *events):
        """Tells several things in one transaction."""
        answer = self._post("events", {"requestId": str(uuid.uuid4()), "events": list(events)})
        if self.state == "run":
            self.state = answer["state"]

    def progress(self, percent, step=None, message=None):
        told = {"type": "progress", "progress": percent, "step": step, "message": message}
        self.report({key: value for key, value in told.items() if value is not None})

    def log(self, message, level="info"):
        self.report({"type": "log", "level": level, "message": message})

    def patch(self, patch):
        """Changes the job's document: a merge patch, as in RFC 7396."""
        self.report({"type": "patch", "patch": patch})

    def event(self, name, data):
        self.report({"type": "event", "name": name, "data": data})

    def upload(self, name, content, content_type="application/octet-stream"):
        path = f"/v1/work/{self.id}/artifacts/{urllib.parse.quote(name)}?fence={self.fence}"
        return self.server.call("PUT", path, data=content, content_type=content_type, timeout=300)

    def download(self, name):
        return self.server.call("GET", f"/v1/work/{self.id}/artifacts/{urllib.parse.quote(name)}", timeout=300, raw=True)

    def finish(self, result):
        return self._post("finish", {"requestId": str(uuid.uuid4()), "result": result})

    def fail(self, error, retry=True):
        return self._settle("fail", {"error": error[:2000] or "failed", "retry": retry})

    def release(self):
        return self._settle("release", {})

    def _settle(self, what, body):
        try:
            return self._post(what, {"requestId": str(uuid.uuid4()), **body})
        except Refused as refused:
            if refused.code not in ("fenced", "job_ended"):  # then there is nothing left to settle
                raise


def work(job):
    """Counts the words of a text. What is in the document already was done before a pause or by another worker."""
    paragraphs = [text for text in job.input.get("text", "").split("\n\n") if text.strip()]
    if not paragraphs:
        raise Fail("input.text holds no words", retry=False)
    job.progress(1, step="counting", message=f"attempt {job.attempt}")
    counted = dict(job.document.get("paragraphs") or {})
    for number, text in enumerate(paragraphs, 1):
        if str(number) in counted:
            continue
        job.check()
        time.sleep(float(job.input.get("secondsPerParagraph", 0)))
        counted[str(number)] = {"words": len(text.split())}
        job.report(
            {"type": "patch", "patch": {"paragraphs": {str(number): counted[str(number)]}}},
            {"type": "event", "name": "words:counted", "data": {"paragraph": number, **counted[str(number)]}},
            {"type": "progress", "progress": 5 + 85 * number // len(paragraphs), "message": f"paragraph {number}"},
        )
    job.check()
    total = sum(paragraph["words"] for paragraph in counted.values())
    report = "".join(f"paragraph {number}: {counted[number]['words']} words\n" for number in sorted(counted, key=int))
    job.progress(95, step="storing")
    stored = job.upload("report.txt", report.encode(), "text/plain; charset=utf-8")
    return {"words": total, "paragraphs": len(paragraphs), "report": stored["url"]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--url", default=os.environ.get("JOBCAST_URL", "http://127.0.0.1:3001"))
    arguments.add_argument("--key", default=os.environ.get("JOBCAST_KEY"))
    arguments.add_argument("--kind", default="words")
    arguments.add_argument("--name", help="what the worker calls itself")
    arguments.add_argument("--once", action="store_true", help="end after one job")
    asked = arguments.parse_args()
    server = Jobcast(asked.url, asked.key, asked.name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stopping.set())
    server.register(asked.kind, prefix="words", lease=int(os.environ.get("JOBCAST_LEASE", "30")))
    print(f"{server.worker} waits for jobs of the kind {asked.kind}", flush=True)
    server.run([asked.kind], work, asked.once)


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        sys.exit(f"refused: {refused}")
