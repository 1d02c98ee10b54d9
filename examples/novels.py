#!/usr/bin/env python3
"""A worker for the novel tool: the text of a PDF, page by page, as sentences of a few words each.

    export JOBCAST_URL=http://127.0.0.1:3001 JOBCAST_KEY=<an API key with the scope "work:novel">
    python3 examples/novels.py

It needs nothing but Python's standard library. Where `pdftotext` (poppler-utils) is installed it reads the pages with
that, which knows more fonts; else it reads them itself, as far as their letters are in a usual encoding or the PDF says
what they mean. Sentences are found and shortened by rules; no language model is asked.

What becomes of each chunk stands in the job's document (`chunk_results`, by number). The sentences of a whole novel are
too many for that: they are stored as the job's file `sentences.json`, an object of lists by the number of the chunk, which
the document names under `sentences`.
"""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib

from worker import Fail, Jobcast, Refused

SENTENCES = "sentences.json"
ENCRYPTED = "The PDF is encrypted; save it without a password and upload it again."
DAMAGED = "No pages can be found in the PDF; it may be damaged. Save it anew and upload it again."
PICTURES = "No text was found on the {} pages of the PDF; they seem to be pictures. Run OCR over it and upload it again."
ALL_FAILED = "All chunks failed to process. Check API credentials or PDF content."


# ---- text of a PDF

def pages_by_poppler(pdf):
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(pdf)
        file.flush()
        command = ["pdftotext", "-enc", "UTF-8", file.name, "-"]
        text = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode("utf-8", "replace")
    return text.rstrip("\f").split("\f")


class Pdf:
    """The objects of a PDF, found wherever they stand; its own table of them is often wrong."""

    def __init__(self, data):
        self.objects = {}
        for found in re.finditer(rb"(\d+)\s+\d+\s+obj\b(.*?)\bendobj\b", data, re.S):
            self.objects[int(found[1])] = found[2]
        for body in list(self.objects.values()):
            if b"/ObjStm" in body:
                self.unpack(body)

    def unpack(self, body):
        content, first = self.stream(body), re.search(rb"/First\s+(\d+)", body)
        if not first:
            return
        first = int(first[1])
        numbers = [int(number) for number in content[:first].split()]
        pairs = list(zip(numbers[::2], numbers[1::2]))
        for (number, start), end in zip(pairs, [start for _, start in pairs[1:]] + [None]):
            self.objects.setdefault(number, content[first + start:None if end is None else first + end])

    def stream(self, body):
        found = re.search(rb"stream\r?\n(.*?)\r?\n?endstream", body, re.S)
        if not found:
            return b""
        if b"/FlateDecode" in body[:found.start()]:
            try:
                return zlib.decompressobj().decompress(found[1], 32 << 20)
            except zlib.error:
                return b""
        return found[1]

    def pages(self):
        kids = [number for number, body in self.objects.items() if re.search(rb"/Type\s*/Page\b(?!s)", body)]
        order = self.order()
        return sorted(kids, key=lambda number: (order.get(number, math.inf), number))

    def order(self):
        """Page numbers in the order of the page tree."""
        order, root = {}, None
        for body in self.objects.values():
            if re.search(rb"/Type\s*/Catalog\b", body):
                root = re.search(rb"/Pages\s+(\d+)\s+\d+\s+R", body)
        waiting = [int(root[1])] if root else []
        seen = set()
        while waiting:
            number = waiting.pop(0)
            if number in seen:
                continue
            seen.add(number)
            kids = re.search(rb"/Kids\s*\[(.*?)\]", self.objects.get(number, b""), re.S)
            if kids:
                waiting[:0] = [int(kid) for kid in re.findall(rb"(\d+)\s+\d+\s+R", kids[1])]
            else:
                order[number] = len(order)
        return order

    def text(self, page):
        contents = re.search(rb"/Contents\s*(\[.*?\]|\d+\s+\d+\s+R)", self.objects[page], re.S)
        parts = re.findall(rb"(\d+)\s+\d+\s+R", contents[1]) if contents else []
        content = b"\n".join(self.stream(self.objects.get(int(part), b"")) for part in parts)
        return shown_text(content, self.fonts(page))

    def value(self, body, key):
        """What stands behind a key, or in the object that is named there."""
        found = re.search(rb"/" + key + rb"\s*(?=[/<\[(\d])(?:(\d+)\s+\d+\s+R)?", body)
        if not found:
            return None
        return self.objects.get(int(found[1]), b"") if found[1] else body[found.end():]

    def fonts(self, page):
        """What the codes of a page's fonts mean: for each name whether a code has two bytes, and its letters."""
        body, resources = self.objects[page], None
        for _ in range(16):  # a page has what stands above it in the tree, too
            resources = self.value(body, b"Resources")
            body = self.value(body, b"Parent")
            if resources is not None or body is None:
                break
        fonts = {}
        for name, number in re.findall(rb"/([^\s/<>\[\]]+)\s+(\d+)\s+\d+\s+R", self.value(resources or b"", b"Font") or b""):
            font = self.objects.get(int(number), b"")
            meanings = self.value(font, b"ToUnicode")
            fonts[name] = (b"/Type0" in font, codes_of(self.stream(meanings)) if meanings else {})
        return fonts


def codes_of(meanings):
    """The letters of codes, from a font's map to Unicode."""
    codes = {}

    def letters(digits, step=0):
        text = bytes.fromhex(digits.decode()).decode("utf-16-be", "replace")
        return text[:-1] + chr(ord(text[-1]) + step) if text else ""

    for part in re.findall(rb"beginbfchar(.*?)endbfchar", meanings, re.S):
        for code, digits in re.findall(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]*)>", part):
            codes[int(code, 16)] = letters(digits)
    for part in re.findall(rb"beginbfrange(.*?)endbfrange", meanings, re.S):
        for low, high, digits, each in re.findall(
            rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>\s*(?:<([0-9A-Fa-f]+)>|\[(.*?)\])", part, re.S
        ):
            low, high = int(low, 16), min(int(high, 16), int(low, 16) + 0xFFFF)
            several = re.findall(rb"<([0-9A-Fa-f]*)>", each)
            for step in range(high - low + 1):
                if digits:
                    codes[low + step] = letters(digits, step)
                elif step < len(several):
                    codes[low + step] = letters(several[step])
    return codes


def shown_text(content, fonts):
    """What a page's instructions show, with a new line where the text moves down."""
    token = re.compile(rb"\((?:\\.|[^\\()]|\((?:\\.|[^\\()])*\))*\)|<[0-9A-Fa-f\s]*>|/[^\s/<>\[\]()]+|\[|\]|-?[\d.]+|[A-Za-z'\"*]+", re.S)
    lines, waiting, numbers, named, font, height = [""], [], [], None, (False, {}), None
    for found in token.finditer(content):
        word = found[0]
        if word[:1] in (b"(", b"<"):
            waiting.append(meant(literal(word), font))
        elif word[:1] == b"/":
            named = word[1:]
        elif re.fullmatch(rb"-?\d*\.?\d+|-?\d+\.", word):
            numbers.append(float(word))
            # Within TJ, a wide gap is a space.
            if waiting and numbers[-1] < -180 and not waiting[-1].endswith(" "):
                waiting.append(" ")
        elif word in (b"Tj", b"TJ", b"'", b'"'):
            if word in (b"'", b'"'):
                lines.append("")
            lines[-1] += "".join(waiting)
            waiting, numbers = [], []
        else:
            moved = word in (b"Td", b"TD") and numbers and numbers[-1] != 0
            if word == b"Tm" and numbers:
                moved, height = numbers[-1] != height, numbers[-1]
            if word == b"Tf":
                font = fonts.get(named, (False, {}))
            if moved or word == b"T*":
                lines.append("")
            if word not in (b"[", b"]"):
                numbers, waiting = [], []
    return "\n".join(line for line in lines if line.strip())


def meant(raw, font):
    """The letters of a string of codes."""
    is_wide, codes = font
    if is_wide:
        return "".join(codes.get(int.from_bytes(raw[at:at + 2], "big"), "") for at in range(0, len(raw), 2))
    return "".join(codes.get(byte) or bytes([byte]).decode("cp1252", "replace") for byte in raw)


def literal(word):
    """The bytes of a string."""
    if word[:1] == b"<":
        digits = re.sub(rb"\s", b"", word[1:-1])
        return bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode())
    plain = {b"n": b"\n", b"r": b" ", b"t": b" ", b"b": b"", b"f": b"", b"\n": b""}

    def escaped(found):
        code = found[1]
        return bytes([int(code, 8) & 255]) if code[:1].isdigit() else plain.get(code, code)

    return re.sub(rb"\\([0-7]{1,3}|.)", escaped, word[1:-1], flags=re.S)


def pages_of(pdf):
    """The text of each page; a failure says what its user can do."""
    if b"%PDF" not in pdf[:1024]:
        raise Fail("This file is no PDF; upload one that begins with %PDF.", retry=False)
    if shutil.which("pdftotext"):
        try:
            pages = pages_by_poppler(pdf)
            if any(page.strip() for page in pages):
                return pages
        except (subprocess.SubprocessError, OSError):
            pass
    if b"/Encrypt" in pdf:
        raise Fail(ENCRYPTED, retry=False)
    reader = Pdf(pdf)
    pages = [reader.text(page) for page in reader.pages()]
    if not pages:
        raise Fail(DAMAGED, retry=False)
    if not any(page.strip() for page in pages):
        raise Fail(PICTURES.format(len(pages)), retry=False)
    return pages


# ---- chunks and sentences

def chunks_of(pages):
    """First and last page of each chunk, from 0; all but the first begin one page early."""
    size = 30 if pages <= 30 else 20 if pages <= 100 else 15
    count = math.ceil(pages / size)
    return [(max(0, index * size - (index > 0)), min(pages, (index + 1) * size) - 1) for index in range(count)]


OPENING, CLOSING, CAPITAL = "\"«“‘(—–-", "\"»”’)", "A-ZÀ-ÖØ-Þ0-9"
BEGINS = rf"(?=(?:[{OPENING}]\s*)*[{CAPITAL}])"
NO_END = re.compile(r"\b(?:MM?|Mmes?|Mlles?|Me|Dr|Ste?|[A-Z])\.$")


def sentences_of(text, limit, least, settings):
    if settings["fix_hyphenation"]:
        text = re.sub(r"(\w)[-\u00ad]\n(\w)", r"\1\2", text)
    # A heading has no full stop, but a gap behind it.
    paragraphs = re.split(rf"\n\s*\n\s*{BEGINS}", text)
    for paragraph in (re.sub(r"\s+", " ", paragraph).strip() for paragraph in paragraphs):
        ended = re.sub(rf"([.!?…](?:\s?[{CLOSING}]+)?)\s+{BEGINS}", r"\1\n", paragraph)
        waiting = ""
        for piece in ended.split("\n"):
            sentence = f"{waiting} {piece}".strip()
            # The point of a title or of a first name.
            waiting = sentence if NO_END.search(sentence) else ""
            if not waiting:
                yield from parts_of(sentence, limit, least, settings)
        yield from parts_of(waiting, limit, least, settings)


def parts_of(sentence, limit, least, settings):
    if sentence and not (settings["ignore_dialogue"] and re.match(r"[«“\"—–-]", sentence)):
        yield from ({"normalized": part, "original": sentence} for part in shortened(sentence, limit, least))


def shortened(sentence, limit, least):
    """The sentence in parts of at most so many words, cut where it breathes if it does."""
    words = sentence.split()
    if len(words) <= limit:
        return [sentence]
    breaks = [
        place for place in range(1, len(words))
        if words[place - 1][-1] in ",;:—" or words[place].lower() in ("et", "mais", "ou", "donc", "car", "qui", "que", "and", "but", "or", "who", "that", "und", "aber", "oder")
    ]
    parts, start = [], 0
    while len(words) - start > limit:
        # Not so that a stump is left.
        most = min(start + limit, max(start + least, len(words) - least))
        fitting = [place for place in breaks if start + least <= place <= most]
        end = fitting[-1] if fitting else most
        parts.append(" ".join(words[start:end]))
        start = end
    parts.append(" ".join(words[start:]))
    return [part[:1].upper() + part[1:].rstrip(",;: ") for part in parts]


def setting(job, name, usual):
    asked = {**(job.input.get("processing_settings") or {}), **(job.document.get("settings") or {})}
    value = asked.get(name, usual)
    if isinstance(usual, bool):
        return str(value).lower() == "true"
    try:
        return max(1, min(100, int(value)))
    except (TypeError, ValueError):
        return usual


def work(job):
    settings = {
        "fix_hyphenation": setting(job, "fix_hyphenation", True),
        "ignore_dialogue": setting(job, "ignore_dialogue", False),
    }
    limit = setting(job, "sentence_length_limit", 8)
    least = min(setting(job, "min_sentence_length", 3), limit)

    def tell(percent, step, **patch):
        job.check()
        job.report(
            {"type": "patch", "patch": {"current_step": step, **patch}},
            {"type": "progress", "progress": percent, "step": step},
        )

    tell(5, "Analyzing PDF")
    pages = pages_of(job.download("input.pdf"))
    chunks = chunks_of(len(pages))
    tell(10, f"Splitting into {len(chunks)} chunks", total_chunks=len(chunks))
    tell(15, "Processing chunks")
    seen, total, by_chunk = set(), 0, {}
    for index, (first, last) in enumerate(chunks):
        place = {"chunk_id": index, "start_page": first + 1, "end_page": last + 1}
        try:
            sentences = []
            for sentence in sentences_of("\n".join(pages[first:last + 1]), limit, least, settings):
                # The page that two chunks share is told once.
                mark = sentence["normalized"].lower()[:100]
                if mark not in seen:
                    seen.add(mark)
                    sentences.append(sentence)
            tokens = math.ceil(sum(len(sentence["original"]) for sentence in sentences) / 4)
            chunk = {**place, "status": "success", "sentence_count": len(sentences), "tokens": tokens}
            total, by_chunk[str(index)] = total + tokens, sentences
        except (ValueError, IndexError) as error:
            chunk = {**place, "status": "failed", "error": str(error)}
        if len(chunks) > 1:
            percent, step = 15 + 60 * (index + 1) // len(chunks), f"Processed {index + 1}/{len(chunks)} chunks"
        else:
            percent, step = 15, "Processing chunks"
        tell(percent, step, processed_chunks=index + 1, chunk_results={str(index): chunk})
    if not by_chunk:
        raise Fail(ALL_FAILED, retry=False)
    job.check()
    job.upload(SENTENCES, json.dumps(by_chunk, ensure_ascii=False).encode(), "application/json")
    credits = max(1, math.ceil(total / 1000 * (job.input.get("pricing_rate") or 1)))
    tell(75, "Merging results", sentences=SENTENCES, actual_tokens=total, actual_credits=credits)
    return {"sentences": len(seen), "pages": len(pages), "chunks": len(chunks)}


def main():
    server = Jobcast(os.environ.get("JOBCAST_URL", "http://127.0.0.1:3001"), os.environ.get("JOBCAST_KEY"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stopping.set())
    server.register("novel", prefix="novel", lease=30)
    print(f"{server.worker} waits for novels", flush=True)
    server.run(["novel"], work, "--once" in sys.argv)


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        sys.exit(f"refused: {refused}")
