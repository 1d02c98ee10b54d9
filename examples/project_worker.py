#!/usr/bin/env python3
"""A worker that makes projects: twelve agents walk their stages and leave a small web application that works.

    export JOBCAST_URL=http://127.0.0.1:3001 JOBCAST_KEY=<an API key with the scope "work">
    python3 examples/project_worker.py

It does jobs of the kind "project", which `POST /api/projects/{id}/generate` makes. There is no model behind it: each
agent fills in templates with the project's name and requirements. What an agent has done stands in the job's document,
so a worker that takes over goes on behind it. The application needs Python and nothing else: `python3 backend/server.py`.
"""

import argparse
import html
import io
import json
import os
import re
import signal
import sys
import textwrap
import time
import zipfile

from worker import Jobcast, Refused

MOST_REQUIREMENTS = 12
# Moments between the steps, so that people can watch.
PAUSE = float(os.environ.get("PROJECT_PAUSE", "0.15"))

SCHEMA = """\
CREATE TABLE IF NOT EXISTS items (
    id         INTEGER PRIMARY KEY,
    title      TEXT NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    done       INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS items_open ON items (done, id);
"""

SERVER = '''\
"""{name}: serves the pages in ../frontend and the API under /api, on a SQLite database."""

import json
import os
import pathlib
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).resolve().parent
PAGES = (HERE.parent / "frontend" / "{platform}").resolve()
KINDS = {{".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}}
MAX_BODY = 10_000


def database(path):
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript((HERE / "schema.sql").read_text("utf-8"))
    if not connection.execute("SELECT count(*) FROM items").fetchone()[0]:
        seed = json.loads((HERE / "seed.json").read_text("utf-8"))
        connection.executemany("INSERT INTO items (title) VALUES (?)", [(title,) for title in seed])
    return connection


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    items = None

    def do_GET(self):
        if self.path == "/api/items":
            rows = self.items.execute("SELECT id, title, done, created_at FROM items ORDER BY done, id")
            return self.answer(200, [dict(row, done=bool(row["done"])) for row in rows])
        if self.path == "/api/health":
            return self.answer(200, {{"status": "healthy", "service": {service}}})
        page = (PAGES / (self.path.split("?")[0].lstrip("/") or "index.html")).resolve()
        if PAGES not in page.parents or not page.is_file():
            return self.answer(404, {{"error": "there is no such page"}})
        self.send(200, page.read_bytes(), KINDS.get(page.suffix, "application/octet-stream"))

    def do_POST(self):
        title = (self.body() or {{}}).get("title")
        if self.path != "/api/items":
            return self.answer(404, {{"error": "there is no such route"}})
        if not isinstance(title, str) or not 1 <= len(title.strip()) <= 200:
            return self.answer(400, {{"error": "title must be a text of 1 to 200 characters"}})
        row = self.items.execute("INSERT INTO items (title) VALUES (?) RETURNING id, title", (title.strip(),))
        self.answer(201, dict(row.fetchone(), done=False))

    def do_PATCH(self):
        done = (self.body() or {{}}).get("done")
        if not isinstance(done, bool):
            return self.answer(400, {{"error": "done must be true or false"}})
        self.changed(self.items.execute("UPDATE items SET done = ? WHERE id = ?", (int(done), self.item())))

    def do_DELETE(self):
        self.changed(self.items.execute("DELETE FROM items WHERE id = ?", (self.item(),)))

    def item(self):
        number = self.path.removeprefix("/api/items/")
        return int(number) if number.isdigit() and len(number) < 10 else -1

    def changed(self, cursor):
        self.answer(200, {{"ok": True}}) if cursor.rowcount else self.answer(404, {{"error": "there is no such item"}})

    def body(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            return None
        try:
            body = json.loads(self.rfile.read(length) or b"null")
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    def answer(self, status, body):
        self.send(status, json.dumps(body).encode(), "application/json")

    def send(self, status, content, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'self'")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def serve(port, path):
    Handler.items = database(path)
    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    server = serve(int(os.environ.get("PORT", "8080")), os.environ.get("DATABASE", str(HERE / "app.db")))
    print(f"{{server.server_name}}:{{server.server_port}}", file=sys.stderr)
    server.serve_forever()
'''

PAGE = """\
<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{name}</title>
  <link rel="stylesheet" href="style.css">
  <link rel="icon" href="logo.svg">
  <main>
    <h1><img src="logo.svg" alt="" width="40" height="40"> {name}</h1>
    <p>{description}</p>
    <form><label>New <input name="title" maxlength="200" required></label> <button>Add</button></form>
    <p role="status" aria-live="polite"></p>
    <ul></ul>
  </main>
  <script src="app.js"></script>
</html>
"""

SCRIPT = """\
// Shows the items of the API and lets people add, tick and remove them.
const list = document.querySelector("ul");
const form = document.querySelector("form");
const status = document.querySelector("[role=status]");

async function call(method, path, body) {
  const answer = await fetch(path, { method, body: body && JSON.stringify(body) });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

function row(item) {
  const line = document.createElement("li");
  const tick = Object.assign(document.createElement("input"), { type: "checkbox", checked: item.done });
  const label = document.createElement("label");
  const remove = Object.assign(document.createElement("button"), { textContent: "Remove" });
  label.append(tick, " ", item.title);
  tick.addEventListener("change", () => change("PATCH", `/api/items/${item.id}`, { done: tick.checked }));
  remove.addEventListener("click", () => change("DELETE", `/api/items/${item.id}`));
  line.append(label, remove);
  return line;
}

async function change(method, path, body) {
  try {
    if (method) await call(method, path, body);
    list.replaceChildren(...(await call("GET", "/api/items")).map(row));
    status.textContent = "";
  } catch (error) {
    status.textContent = error.message;
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  await change("POST", "/api/items", { title: form.title.value });
  form.reset();
});
change();
"""

STYLE = """\
:root {{ color-scheme: light dark; --accent: {accent}; font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ display: flex; gap: 0.6rem; align-items: center; }}
ul {{ list-style: none; padding: 0; }}
li {{ display: flex; justify-content: space-between; gap: 1rem; padding: 0.4rem 0; border-bottom: 1px solid #8884; }}
button {{ border: 1px solid var(--accent); border-radius: 0.3rem; background: none; color: inherit; }}
"""

LOGO = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40"><rect width="40" height="40" rx="9" fill="{accent}"/>
<text x="20" y="28" font-family="sans-serif" font-size="22" text-anchor="middle" fill="#fff">{letter}</text></svg>
"""

TESTS = '''\
"""The API from end to end: python3 -m unittest discover tests"""

import json
import pathlib
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "backend"))
import server


class Api(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.server = server.serve(0, f"{self.folder.name}/test.db")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()
        server.Handler.items.close()
        self.folder.cleanup()

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.server.server_port}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def test_items_are_added_ticked_and_removed(self):
        before = len(json.loads(self.call("GET", "/api/items")[1]))
        status, made = self.call("POST", "/api/items", {"title": "one more"})
        self.assertEqual(status, 201)
        path = f"/api/items/{json.loads(made)['id']}"
        self.assertEqual(self.call("PATCH", path, {"done": True})[0], 200)
        items = json.loads(self.call("GET", "/api/items")[1])
        self.assertEqual((len(items), items[-1]["done"]), (before + 1, True))
        self.assertEqual(self.call("DELETE", path)[0], 200)
        self.assertEqual(self.call("DELETE", path)[0], 404)

    def test_what_makes_no_sense_is_refused(self):
        self.assertEqual(self.call("POST", "/api/items", {"title": ""})[0], 400)
        self.assertEqual(self.call("PATCH", "/api/items/1", {"done": 7})[0], 400)
        self.assertEqual(self.call("GET", "/../backend/server.py")[0], 404)

    def test_the_page_is_there(self):
        status, page = self.call("GET", "/")
        self.assertEqual((status, b"<main>" in page), (200, True))


if __name__ == "__main__":
    unittest.main()
'''


class Project:
    """What was asked for, and the files so far."""

    def __init__(self, asked, document):
        text = lambda key, default="": str(asked.get(key) or default).strip()
        self.name = text("name", "Application")
        self.description = text("description", self.name)
        pieces = re.split(r"[\n.;]+", text("requirements"))
        wanted = [re.sub(r"^[\s*•\d)-]+", "", piece).strip()[:200] for piece in pieces]
        self.requirements = [piece for piece in wanted if piece][:MOST_REQUIREMENTS] or [self.description[:200]]
        platforms = [re.sub(r"[^a-z0-9_-]", "", str(one).lower()) for one in asked.get("target_platforms") or []]
        self.platforms = [one for one in dict.fromkeys(platforms) if one][:5] or ["web"]
        self.architecture = text("architecture_type", "modular")
        self.accent = f"hsl({sum(map(ord, self.name)) % 360} 55% 40%)"
        self.files = dict(document.get("generated_code") or {})

    def tables(self, _):
        yield "backend/schema.sql", SCHEMA
        yield "backend/seed.json", json.dumps(self.requirements, ensure_ascii=False, indent=2) + "\n"

    def api(self, _):
        routes = [
            ("GET", "/api/items", "all items, open ones first"), ("POST", "/api/items", "a new item: `{title}`"),
            ("PATCH", "/api/items/{id}", "tick or untick: `{done}`"), ("DELETE", "/api/items/{id}", "remove it"),
            ("GET", "/api/health", "whether the service is up"),
        ]
        lines = "".join(f"| {method} | `{path}` | {what} |\n" for method, path, what in routes)
        yield "docs/api.md", f"# API of {self.name}\n\n| method | path | what |\n|---|---|---|\n{lines}"

    def looks(self, _):
        for platform in self.platforms:
            yield f"frontend/{platform}/style.css", STYLE.format(accent=self.accent)

    def pictures(self, _):
        for platform in self.platforms:
            logo = LOGO.format(accent=self.accent, letter=html.escape(self.name[:1].upper()))
            yield f"frontend/{platform}/logo.svg", logo

    def backend(self, _):
        yield "backend/server.py", SERVER.format(
            name=self.name.replace("\\", "").replace('"', "'"), platform=self.platforms[0], service=json.dumps(self.name))

    def frontend(self, platform):
        page = PAGE.format(name=html.escape(self.name), description=html.escape(self.description))
        yield f"frontend/{platform}/index.html", page
        yield f"frontend/{platform}/app.js", SCRIPT

    def security(self, _):
        unsafe = [path for path, text in self.files.items() if "innerHTML" in text or "eval(" in text]
        yield "docs/security.md", textwrap.dedent(f"""\
            # Security

            * Every value goes into SQL as a parameter, and into pages as text.
            * Pages may load from their own origin only (Content-Security-Policy), and requests are limited to 10 kB.
            * The server listens on 127.0.0.1; put a proxy with TLS in front of it.
            * Files that put markup or code together by hand: {", ".join(unsafe) or "none"}.
            """)

    def performance(self, _):
        size = sum(len(text.encode()) for path, text in self.files.items() if path.startswith("frontend/"))
        yield "docs/performance.md", textwrap.dedent(f"""\
            # Performance

            * The pages are {size:,} bytes in all, without a framework and without a build.
            * The list is read through the index `items_open`; SQLite runs in WAL mode, so readers do not wait.
            """)

    def tests(self, _):
        yield "tests/test_api.py", TESTS

    def operations(self, _):
        yield "Dockerfile", textwrap.dedent("""\
            FROM python:3-slim
            WORKDIR /app
            COPY . .
            RUN useradd --create-home app && chown -R app backend
            USER app
            CMD ["python3", "backend/server.py"]
            """)
        yield "Makefile", "run:\n\tpython3 backend/server.py\n\ntest:\n\tpython3 -m unittest discover tests\n\n.PHONY: run test\n"

    def documentation(self, _):
        wishes = "".join(f"* {wish}\n" for wish in self.requirements)
        yield "README.md", (
            f"# {self.name}\n\n{self.description}\n\n`make run`, then open <http://127.0.0.1:8080/>; `make test` tests it.\n"
            f"It needs Python 3.9 or newer.\n\n## Wanted\n\n{wishes}\n## Parts\n\n"
            f"Architecture: {self.architecture}. `backend/` has the server and its database, `frontend/` the pages for "
            f"{', '.join(self.platforms)}, `docs/` what the other agents wrote.\n")

    def review(self, _):
        found = []
        for path, text in self.files.items():
            if path.endswith(".py"):
                compile(text, path, "exec")
            long = [str(number) for number, line in enumerate(text.splitlines(), 1) if len(line) > 120]
            found += [f"* `{path}`: lines longer than 120 characters: {', '.join(long)}\n"] if long else []
        lines = sum(text.count("\n") for text in self.files.values())
        yield "docs/review.md", f"# Review\n\n{len(self.files)} files, {lines} lines.\n\n{''.join(found) or 'Nothing to complain of.'}\n"


# The agent's name, what its stage is announced with, and what it does.
STAGES = [
    ("database", "🗄️", "Designing database schema", Project.tables),
    ("api_architect", "🔌", "Designing the API", Project.api),
    ("uiux_designer", "🎨", "Designing UI/UX", Project.looks),
    ("image_generator", "🖼️", "Generating images and assets", Project.pictures),
    ("backend", "⚙️", "Generating backend code", Project.backend),
    ("frontend", "💻", "Generating frontend code", Project.frontend),
    ("security", "🔒", "Analysing security", Project.security),
    ("performance", "⚡", "Optimising performance", Project.performance),
    ("testing", "🧪", "Generating tests", Project.tests),
    ("devops", "🚀", "Preparing deployment", Project.operations),
    ("documentation", "📚", "Writing documentation", Project.documentation),
    ("code_review", "🔍", "Reviewing the code", Project.review),
]


def work(job):
    began = time.monotonic()
    project = Project(job.input, job.document)
    done = {key for key, agent in (job.document.get("agents") or {}).items() if agent.get("status") == "completed"}
    for number, (agent, emoji, title, make) in enumerate(STAGES, 1):
        runs = [(f"{agent}-{one}", one) for one in project.platforms] if agent == "frontend" else [(agent, None)]
        if all(key in done for key, _ in runs):
            continue
        job.check()
        # The page's bar begins at 10 when the project is asked for.
        job.report(
            {"type": "log", "level": "info", "message": f"{emoji} Stage {number}/12: {title}"},
            {"type": "progress", "progress": 10 + 85 * (number - 1) // len(STAGES), "step": agent},
        )
        for key, platform in runs:
            if key in done:
                continue
            job.check()
            started = time.monotonic()
            job.patch({"agents": {key: {"agent": agent, "status": "started"}}})
            time.sleep(PAUSE)
            files = dict(make(project, platform))
            project.files.update(files)
            agent_done = {"agent": agent, "status": "completed", "seconds": round(time.monotonic() - started, 2), "files": sorted(files)}
            job.patch({"agents": {key: agent_done}, "generated_code": files})
    job.check()
    job.log("🔗 Integrating all components")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in sorted(project.files.items()):
            archive.writestr(path, text)
    job.upload("project.zip", packed.getvalue(), "application/zip")
    stack = {"backend": "Python, SQLite", "frontend": ", ".join(project.platforms), "deployment": "Docker"}
    seconds = time.monotonic() - began
    job.report(
        {"type": "patch", "patch": {"features": project.requirements, "tech_stack": stack}},
        {"type": "log", "level": "info", "message": f"✨ Application generation completed! Duration: {seconds:.2f}s"},
    )
    return {"files": len(project.files), "bytes": len(packed.getvalue()), "artifact": "project.zip"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--url", default=os.environ.get("JOBCAST_URL", "http://127.0.0.1:3001"))
    arguments.add_argument("--key", default=os.environ.get("JOBCAST_KEY"))
    arguments.add_argument("--once", action="store_true", help="end after one job")
    asked = arguments.parse_args()
    server = Jobcast(asked.url, asked.key)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stopping.set())
    server.register("project", prefix="project", lease=int(os.environ.get("JOBCAST_LEASE", "30")))
    print(f"{server.worker} waits for projects", flush=True)
    server.run(["project"], work, asked.once)


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        sys.exit(f"refused: {refused}")
