#!/usr/bin/env python3
"""A worker for the transcript queue's frontend, with nothing but Python's standard library.

    export JOBCAST_URL=http://127.0.0.1:3001 JOBCAST_KEY=<an API key with the scope "work:transcript">
    python3 examples/transcripts.py

It runs the four phases of the kind "transcript" by simple text processing, no language model needed:
  analyst    what is in it: words, minutes, speakers with their shares, key terms
  formatter  the text as people read it: speaker turns and paragraphs, from .txt or .srt
  seo        a title, a description and keywords, by how often words are used
  manager    a review of the other three, and a manifest of the files
"""

import argparse
import collections
import datetime
import hashlib
import json
import os
import re
import signal
import time

from worker import Fail, Job, Jobcast

PHASES = ["analyst", "formatter", "seo", "manager"]
WORDS_PER_MINUTE = 150
CUE = re.compile(r"^\d+\s*$|^\d\d:\d\d:\d\d[,.]\d\d\d\s*-->.*$")
SPEAKER = re.compile(r"^\s*(?:>>\s*)?([A-ZÄÖÜ][\w .'’-]{0,40}?):\s+(.*)$")
END = re.compile(r"-->\s*(\d\d):(\d\d):(\d\d)")
STOP = set(
    """a about after all also am an and any are as at be because been before being but by can could did do does doing
    don't down each for from get go going had has have having he her here him his how i i'm if in into is it it's its just
    know like me more most my no not now of on one only or other our out over really said say see she should so some such
    than that that's the their them then there these they they're thing things think this those through to too up us very
    want was way we we're well were what when where which while who why will with would yeah yes you you're your
    der die das und ist nicht ein eine zu den mit von im für auf dem des sich es ich sie wir auch als an er wie""".split()
)


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read(text):
    """The transcript as turns of (speaker, text), and its minutes if its cues tell them."""
    times = END.findall(text)
    minutes = (int(times[-1][0]) * 60 + int(times[-1][1]) + int(times[-1][2]) / 60) if times else None
    turns, speaker = [], None
    for line in text.replace("\r\n", "\n").lstrip("\ufeff").split("\n"):
        if CUE.match(line) or not line.strip():
            continue
        line = re.sub(r"<[^>]+>", "", line).strip()
        told = SPEAKER.match(line)
        if told:
            speaker, line = told.group(1).strip(), told.group(2)
            turns.append([speaker, line])
        elif line.startswith(">>") or not turns:
            turns.append([None, line.lstrip("> ")])
        else:
            turns[-1][1] += " " + line
    return [(speaker, text.strip()) for speaker, text in turns if text.strip()], minutes


def words(text):
    return re.findall(r"[\w'’-]+", text)


def terms(turns, most=12):
    """The words that are used most, without those that every text uses."""
    counted = collections.Counter()
    for _, text in turns:
        counted.update(word.lower() for word in words(text) if len(word) > 3 and word.lower() not in STOP)
    return counted.most_common(most)


def sentences(text):
    return [found.strip() for found in re.findall(r"[^.!?]+[.!?]?", text) if found.strip()]


def analyst(job, found):
    turns = found["turns"]
    spoken = collections.Counter()
    for speaker, text in turns:
        spoken[speaker or "Unknown"] += len(words(text))
    total = sum(spoken.values())
    minutes = round(found["minutes"] or total / WORDS_PER_MINUTE, 1)
    found.update(words=total, duration=minutes, speakers=spoken, terms=terms(turns))
    lines = [f"# Analysis of {job.name}", "", f"* Words: {total}", f"* Minutes: {minutes}", f"* Turns: {len(turns)}", ""]
    lines += ["## Speakers", "", "| speaker | words | share |", "|---|---|---|"]
    lines += [f"| {name} | {count} | {100 * count / total:.0f} % |" for name, count in spoken.most_common()]
    lines += ["", "## Key terms", ""] + [f"* {term} ({count})" for term, count in found["terms"]]
    return "analyst_output.md", lines, {"word_count": total, "duration_minutes": minutes}


def formatter(job, found):
    lines = [f"# {job.name}", ""]
    for speaker, text in found["turns"]:
        paragraph, spoken = [], sentences(text)
        if speaker:
            lines += [f"**{speaker}:**", ""]
        for number, sentence in enumerate(spoken, 1):
            paragraph.append(sentence[0].upper() + sentence[1:])
            if number % 4 == 0 or number == len(spoken):
                lines += [" ".join(paragraph), ""]
                paragraph = []
    return "formatter_output.md", lines, {}


def seo(job, found):
    top = [term for term, _ in found["terms"]]
    title = f"{job.name.replace('_', ' ')}: {', '.join(term.capitalize() for term in top[:3])}"[:60].rstrip(" ,:")
    opening = max(
        (spoken for _, text in found["turns"][:20] for spoken in sentences(text)),
        key=lambda spoken: sum(term in spoken.lower() for term in top),
        default=job.name,
    )
    description = opening if len(opening) <= 155 else opening[:152].rsplit(" ", 1)[0] + "…"
    found["seo"] = {"title": title, "description": description, "keywords": top[:10]}
    lines = ["# SEO", "", f"**Title:** {title}", "", f"**Description:** {description}", "", "**Keywords:** " + ", ".join(top[:10])]
    return "seo_output.md", lines, {}


def manager(job, found):
    checks = [
        ("the transcript has words", found["words"] > 0),
        ("no words were lost in formatting", found["kept"] >= found["words"] * 0.98),
        ("the title has at most 60 characters", len(found["seo"]["title"]) <= 60),
        ("the description has at most 155 characters", len(found["seo"]["description"]) <= 155),
        ("there are at least 3 keywords", len(found["seo"]["keywords"]) >= 3),
    ]
    lines = ["# Review", ""] + [f"* [{'x' if fine else ' '}] {what}" for what, fine in checks]
    lines += ["", "All is well." if all(fine for _, fine in checks) else "Some of it wants a second look."]
    return "manager_output.md", lines, {}


def work(job: Job):
    """Runs the phases that the document does not show as completed; a pause or another worker costs no phase twice."""
    name = job.input.get("artifact") or next((n for n in job.artifacts if n.startswith("transcript.")), None)
    if name not in job.artifacts:
        raise Fail(f"The transcript file {job.input.get('transcript_file', '')!r} was not uploaded", retry=False)
    turns, minutes = read(job.download(name).decode("utf-8", errors="replace"))
    if not any(words(text) for _, text in turns):
        raise Fail("The transcript holds no words", retry=False)
    found = {"turns": turns, "minutes": minutes, "files": {}}
    outputs = {"analyst": "analysis", "formatter": "formatted_transcript", "seo": "seo_metadata"}
    done = {phase for phase, told in (job.document.get("phases") or {}).items() if told.get("status") == "completed"}
    pause = float(os.environ.get("SECONDS_PER_PHASE", "0"))
    for number, phase in enumerate(PHASES):
        job.check()
        again = phase in done
        if not again:
            job.report(
                {"type": "progress", "progress": 5 + 22 * number, "step": phase, "message": f"phase {number + 1} of 4"},
                {"type": "patch", "patch": {"current_phase": phase, "phases": {phase: {
                    "status": "in_progress", "started_at": now(), "model": "rules", "tier": 0,
                    "tier_label": "cheapskate", "tier_reason": "simple text processing", "attempts": job.attempt}}}},
            )
            time.sleep(pause)
        file, lines, more = globals()[phase](job, found)
        text = "\n".join(lines) + "\n"
        if phase == "formatter":
            found["kept"] = len(words(re.sub(r"^#.*$|\*\*[^*]*:\*\*", "", text, flags=re.M)))
        found["files"][file] = {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        if again:
            continue
        job.upload(file, text.encode(), "text/markdown; charset=utf-8")
        patch = {**more, "phases": {phase: {
            "status": "completed", "completed_at": now(), "cost": 0.0, "tokens": len(words(text)), "output_path": file}}}
        if phase in outputs:
            patch["outputs"] = {outputs[phase]: file}
        job.patch(patch)
    manifest = {"job": job.name, "transcript": job.input.get("transcript_file"), "made_at": now(), "files": found["files"],
                "seo": found["seo"]}
    job.upload("manifest.json", json.dumps(manifest, indent=2).encode(), "application/json")
    job.patch({"current_phase": None, "manifest_path": "manifest.json", "actual_cost": 0.0})
    return {"words": found["words"], "minutes": found["duration"], "files": sorted(found["files"])}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--url", default=os.environ.get("JOBCAST_URL", "http://127.0.0.1:3001"))
    arguments.add_argument("--key", default=os.environ.get("JOBCAST_KEY"))
    arguments.add_argument("--once", action="store_true", help="end after one job")
    asked = arguments.parse_args()
    server = Jobcast(asked.url, asked.key)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stopping.set())
    server.register("transcript", description="Transcripts: analysis, formatting, SEO, review", lease=30, maxAttempts=4)
    print(f"{server.worker} waits for transcripts", flush=True)
    server.run(["transcript"], work, asked.once)


if __name__ == "__main__":
    main()
