// One job: how it stands, or stood at any of its events.

import { ask, history } from "./api.js";
import { attribute, h, icon, say, soon, svg, toast } from "./dom.js";
import { counts, dump, isEnded, STAGES } from "./fold.js";
import { Companies, Documents, Events, Gallery, Labels, Log, Results, Timings, Workers } from "./parts.js";
import { Timeline } from "./timeline.js";
import { ago, clock, duration, group, host, KINDS, moment, STAGE, statusWord } from "./words.js";

/** The longest wait between two events that a replay keeps to, in milliseconds of the job. */
const LONGEST_WAIT = 4000;
const SIGNS = { crawling: "camera", "processing-ocr": "read", matching: "match", rendering: "label" };

export class JobView {
  constructor(app, id, at) {
    this.app = app;
    this.id = id;
    this.title = "Job";
    this.timeline = new Timeline();
    /** The newest progress; it is in no journal, so the playhead does not know it. */
    this.fresh = freshStart();
    /** The seq that is shown; null for the newest. */
    this.at = at;
    this.record = null;
    this.phase = "loading";
    this.early = [];
    this.abort = new AbortController();
    this.paint = () => this.#paint();
    this.listen = (event, data, position) => this.#take(event, data, position);
    app.live.listeners.add(this.listen);
    this.#build();
  }

  opened() {
    this.#load();
  }

  close() {
    this.closed = true;
    this.abort.abort();
    this.unfollow?.();
    this.app.live.listeners.delete(this.listen);
    this.#stop();
    this.parts.gallery.close();
  }

  // What is known.

  async #load() {
    const { signal } = this.abort;
    try {
      await this.#look();
      for await (const page of history(this.id, this.timeline.last, signal)) {
        for (const event of page.events) this.timeline.push({ ...event, how: "history" });
        soon(this.paint);
      }
    } catch (error) {
      if (!this.closed) this.#failed(error);
      return;
    }
    this.phase = "ready";
    for (const event of this.early.splice(0)) this.timeline.push(event);
    if (this.at !== null && this.at >= this.timeline.last) this.at = null;
    const answered = (answer) => this.#answered(answer);
    answered.wantsReturns = true;
    if (!this.closed) this.unfollow ??= this.app.live.follow(this.id, () => this.timeline.last, answered);
    soon(this.paint);
  }

  async #look() {
    this.record = await ask(`/v1/jobs/${this.id}`, { signal: this.abort.signal });
    this.title = this.record.name || "Job";
    document.title = `${this.title} · Jobcast`;
    soon(this.paint);
  }

  #answered(answer) {
    if (!answer?.ok) {
      if (answer?.error) toast(answer.error.message, "error");
      return;
    }
    const missed = Math.max(0, answer.seq - answer.known);
    if (this.followed) this.app.live.replayed(missed);
    this.followed = true;
    /** Up to here events were told again, or late. */
    this.replayedTo = answer.seq;
  }

  #take(event, data, position) {
    if (data?.jobId !== this.id) return;
    if (position === undefined) {
      this.#progress(event, data);
      soon(this.paint);
      return;
    }
    const next = { event, data, position };
    if (this.phase !== "ready") {
      this.early.push({ ...next, how: "live" });
      // What is not read yet of a past that is long comes anyway.
      if (this.early.length > 5000) this.early.shift();
      return;
    }
    if (!this.timeline.push({ ...next, how: this.timeline.last < this.replayedTo ? "replay" : "live" })) return;
    // A sentence of the journal is newer than the progress that was told before it.
    if (event === "job:updated" || event === "job:log") this.fresh.message = "";
    if (event === "job:updated") this.fresh.step = "";
    if (isEnded(this.timeline.head.status)) this.#ended();
    soon(this.paint);
  }

  #progress(event, data) {
    if (isEnded(this.timeline.head.status)) return;
    const { fresh } = this;
    if (event === "job:progress") {
      Object.assign(fresh, { progress: Number(data.progress) || 0, step: String(data.currentStep ?? ""), message: String(data.message ?? "") });
    } else if (event === "ocr:progress") {
      fresh.readings.set(data.screenshotId, Number(data.progress) || 0);
      if (fresh.readings.size > 200) fresh.readings.delete(fresh.readings.keys().next().value);
    } else if (event === "company:progress") {
      fresh.companies.set(data.domain, data);
      if (fresh.companies.size > 200) fresh.companies.delete(fresh.companies.keys().next().value);
    }
  }

  /** Behind the last event: what no event carries, and whether all were counted right. */
  async #ended() {
    this.fresh = freshStart();
    try {
      await this.#look();
      if (this.record.seq !== this.timeline.last && !this.checked) {
        this.checked = true;
        this.timeline.clear();
        this.phase = "loading";
        await this.#load();
      }
    } catch {
      // What the events told stands.
    }
  }

  #failed(error) {
    this.phase = "failed";
    const isGone = error.status === 404 || error.status === 400;
    this.element.replaceChildren(h("div", { class: "blank card" }, icon("warn"), h("h1", {}, isGone ? "There is no such job" : "The job cannot be shown"), h("p", {}, error.message),
      h("div", { class: "row" }, !isGone && h("button", { class: "primary", onclick: () => this.#again() }, icon("retry"), "Try again"), h("a", { class: "button", href: "#/" }, "All jobs"))));
  }

  #again() {
    this.#build(this.element);
    this.timeline.clear();
    this.phase = "loading";
    this.#load();
  }

  /** The state that is shown. */
  get state() {
    return this.at === null ? this.timeline.head : this.timeline.at(this.at);
  }

  /** For tests: what is shown, as data. */
  dump() {
    return dump(this.state);
  }

  // What is seen.

  #build(element = h("div", { class: "job-view" })) {
    this.element = element;
    const part = (name, tag = "span") => h(tag, { class: name });
    this.head = { name: h("h1", { tabIndex: -1 }, "…"), badge: part("badge"), meta: part("meta", "p"), actions: h("div", { class: "actions" }), message: h("p", { class: "message" }), alert: h("div", { class: "alert", hidden: true }) };
    this.stages = h("ol", { class: "stages", "aria-label": "Stages" });
    this.bar = h("div", { class: "whole", role: "progressbar", "aria-label": "Progress of the job", "aria-valuemin": "0", "aria-valuemax": "100" }, part("fill"));
    this.parts = {
      gallery: new Gallery(this), labels: new Labels(this), companies: new Companies(this), documents: new Documents(this), results: new Results(this),
      workers: new Workers(this), timings: new Timings(this), log: new Log(this), events: new Events(this),
    };
    const { gallery, labels, companies, documents, results, workers, timings, log, events } = this.parts;
    element.replaceChildren(
      h("div", { class: "top" },
        h("a", { class: "back quiet", href: "#/", "aria-label": "All jobs" }, icon("back")),
        h("div", { class: "names" }, h("div", { class: "line" }, this.head.name, this.head.badge), this.head.meta), this.head.actions),
      this.head.alert,
      h("div", { class: "card state" }, this.stages, this.bar, this.head.message, this.#playhead()),
      h("div", { class: "columns" },
        h("div", { class: "main" }, [results, labels, gallery, companies, documents].map((one) => one.element)),
        h("div", { class: "side" }, [workers, timings, log, events].map((one) => one.element))));
  }

  #playhead() {
    this.slider = h("input", { type: "range", class: "slider", min: "0", max: "0", value: "0", step: "1", "aria-label": "Playhead: the job at an event",
      oninput: () => this.go(Number(this.slider.value)), onkeydown: (event) => this.#slide(event) });
    this.bands = svg("svg", { class: "bands", "aria-hidden": "true", preserveAspectRatio: "none", viewBox: "0 0 1000 10" });
    this.where = h("span", { class: "where" });
    this.playing = null;
    this.speed = 1;
    this.play = h("button", { class: "round", onclick: () => (this.playing ? this.#stop() : this.#play()) }, icon("play"));
    this.speeds = [1, 10].map((speed) => h("button", { class: "chip", "aria-pressed": String(speed === this.speed), title: `Replay ${speed === 1 ? "as fast as it was" : `${speed} times as fast`}; a wait is ${LONGEST_WAIT / 1000} s long at the most`, onclick: () => this.#speed(speed) }, `${speed}×`));
    this.live = h("button", { class: "chip live-chip", onclick: () => this.go(null) }, h("span", { class: "light", "aria-hidden": "true" }), this.liveWord = h("span", {}, "Live"));
    return h("div", { class: "playhead", role: "group", "aria-label": "Playhead" }, this.play,
      h("div", { class: "rail" }, this.bands, this.slider),
      h("div", { class: "speeds" }, this.speeds, this.live), this.where);
  }

  /** Shows the job at a seq, or with null the newest. */
  go(seq, byPlaying = false) {
    if (!byPlaying) this.#stop();
    this.at = seq === null || seq >= this.timeline.last ? null : Math.max(seq, this.timeline.first);
    soon(this.paint);
  }

  #slide(event) {
    const by = { PageUp: 25, PageDown: -25 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.go((this.at ?? this.timeline.last) + by);
  }

  #speed(speed) {
    this.speed = speed;
    for (const [index, one] of [1, 10].entries()) attribute(this.speeds[index], "aria-pressed", String(one === speed));
    if (this.playing) {
      this.#stop();
      this.#play();
    } else if (this.at === null && isEnded(this.timeline.head.status)) {
      this.#play();
    }
  }

  /** Replays from where the playhead stands, or from the beginning, with the waits that the job had. */
  #play() {
    if (this.timeline.last === 0) return;
    if (this.at === null) this.at = this.timeline.first;
    let since = performance.now();
    let behind = 0;
    const step = () => {
      const now = performance.now();
      behind += (now - since) * this.speed;
      since = now;
      let shown = this.at;
      while (shown !== null && shown < this.timeline.last) {
        const index = this.timeline.index(shown + 1);
        const next = this.timeline.entries[index];
        const before = this.timeline.entries[index - 1];
        const wait = Math.min(LONGEST_WAIT, before ? Math.max(0, Date.parse(next.data?.timestamp) - Date.parse(before.data?.timestamp) || 0) : 0);
        if (wait > behind) break;
        behind -= wait;
        shown = next.seq;
      }
      this.go(shown, true);
      this.playing = this.at === null ? null : requestAnimationFrame(step);
    };
    this.playing = requestAnimationFrame(step);
    soon(this.paint);
  }

  #stop() {
    if (this.playing) cancelAnimationFrame(this.playing);
    this.playing = null;
    soon(this.paint);
  }

  key(event) {
    const at = this.at ?? this.timeline.last;
    if (event.target.closest?.("button, a, summary, [role=listbox]") && event.key === " ") return false;
    const todo = {
      " ": () => (this.playing ? this.#stop() : this.#play()), ArrowLeft: () => this.go(at - 1), ArrowRight: () => this.go(at + 1),
      Home: () => this.go(this.timeline.first || 1), End: () => this.go(null), b: () => this.parts.gallery.toggle(), Escape: () => (location.hash = "#/"),
    }[event.key];
    todo?.();
    return Boolean(todo);
  }

  tick() {
    if (this.phase === "failed") return;
    this.#meta();
    if (isEnded(this.timeline.head.status)) return;
    this.parts.timings.paint(this.state);
    this.#bands(this.timeline.first, this.timeline.last);
  }

  #paint() {
    if (this.closed || this.phase === "failed") return;
    const { state, head, timeline } = this;
    const isLive = this.at === null;
    say(head.name, this.record?.name || state.name || "…");
    say(head.badge, statusWord(state.status, state.type));
    attribute(head.badge, "data-group", group(state.status));
    // Who listens is told of a new stage as it comes, and not of those that a replay runs through.
    attribute(head.badge, "aria-live", isLive ? "polite" : "off");
    attribute(this.element, "data-mode", isLive ? "live" : "past");
    this.#meta();
    this.#actions();
    this.#alert(state);
    this.#stagebar(state, isLive);
    const { last, first } = timeline;
    this.slider.min = String(first ? first : Math.min(1, last));
    this.slider.max = String(last);
    this.slider.value = String(this.at ?? last);
    this.slider.disabled = last < 2;
    this.play.disabled = last < 2;
    const isPlaying = Boolean(this.playing);
    if (this.play.dataset.playing !== String(isPlaying)) {
      this.play.dataset.playing = String(isPlaying);
      this.play.replaceChildren(icon(isPlaying ? "pause" : "play"));
      attribute(this.play, "aria-label", isPlaying ? "Stop the replay" : "Replay the job");
    }
    const hasEnded = isEnded(timeline.head.status);
    say(this.liveWord, hasEnded ? "End" : "Live");
    attribute(this.live, "aria-pressed", String(isLive));
    attribute(this.live, "data-on", isLive && !hasEnded ? "" : null);
    const loading = this.phase === "loading" && last > 0 ? " · reading its past…" : "";
    say(this.where, last === 0 ? (this.phase === "loading" ? "Reading its events…" : "No event yet") : isLive ? `Event ${last}${hasEnded ? `, the last · ${moment(state.at)}` : ""}${loading}` : `As it was at event ${this.at} of ${last} · ${moment(state.at)}`);
    attribute(this.slider, "aria-valuetext", `Event ${this.at ?? last} of ${last}, ${statusWord(state.status, state.type)}, ${clock(state.at)}`);
    this.#bands(first, last);
    for (const one of Object.values(this.parts)) one.paint(state);
  }

  #meta() {
    const { record, timeline } = this;
    if (!record) return;
    const { head } = timeline;
    const what = [record.kind || KINDS[record.type] || record.type, host(record.config?.shopUrl ?? "")].filter(Boolean).join(" · ");
    const created = head.createdAt || Date.parse(record.createdAt);
    const took = head.endedAt ? `took ${duration(head.endedAt - (head.startedAt || created))}` : "";
    const meta = this.head.meta;
    if (!meta.childElementCount) {
      meta.append(...["what", "owner", "age", "again"].map((name) => h("span", { class: name, "data-ephemeral": name === "age" ? "" : null })));
    }
    const [whatNode, owner, age, again] = meta.children;
    say(whatNode, what);
    say(owner, record.owner);
    say(age, head.endedAt ? `${ago(head.endedAt)} ago, ${took}` : `${ago(created)} old`);
    if (record.retryOf && !again.childElementCount) again.append("tries again what failed in ", h("a", { href: `#/jobs/${record.retryOf}` }, "an earlier job"));
  }

  #alert(state) {
    const waits = this.at === null && !isEnded(state.status) ? this.record?.waitingFor : "";
    const text = state.error || (waits && state.status === this.record?.status ? `It waits for ${waits}.` : "");
    const { alert } = this.head;
    alert.hidden = !text;
    attribute(alert, "data-kind", state.error ? (state.status === "cancelled" ? "warning" : "error") : "info");
    say(alert, text);
  }

  #actions() {
    const { status } = this.timeline.head;
    const tally = counts(this.timeline.head);
    const over = isEnded(status);
    const wanted = [];
    if (!over && status !== "paused") wanted.push("pause");
    if (status === "paused") wanted.push("resume");
    const isFailedWork = status === "failed" || status === "cancelled";
    if ((tally.failed > 0 && status !== "cancelled") || isFailedWork) wanted.push("retry");
    wanted.push(over ? "remove" : "cancel");
    const key = this.phase === "ready" ? wanted.join() : "";
    const { actions } = this.head;
    if (actions.dataset.key === key) return;
    const focused = document.activeElement?.dataset?.action;
    actions.dataset.key = key;
    const words = { pause: ["pause", "Pause"], resume: ["play", "Resume"], retry: ["retry", "Retry failed"], cancel: ["stop", "Cancel"], remove: ["trash", "Remove"] };
    actions.replaceChildren(...(key ? wanted : []).map((action) => {
      const [sign, word] = words[action];
      return h("button", { "data-action": action, class: action === "cancel" || action === "remove" ? "danger" : "", onclick: (event) => this.#act(action, event.currentTarget) }, icon(sign), word);
    }));
    if (focused) (actions.querySelector(`[data-action=${focused}]`) ?? actions.firstElementChild)?.focus();
  }

  async #act(action, button) {
    const sure = { cancel: "Cancel this job? What runs is stopped at once.", remove: "Remove this job with its pictures and labels?" }[action];
    if (sure && !(await confirmed(sure, action === "cancel" ? "Cancel the job" : "Remove the job"))) return;
    button.disabled = true;
    try {
      if (action === "remove") {
        await ask(`/v1/jobs/${this.id}`, { method: "DELETE" });
        this.app.jobs.refresh();
        location.hash = "#/";
        return;
      }
      const answer = await ask(`/v1/jobs/${this.id}/${action}`, { method: "POST" });
      if (answer.id !== this.id) location.hash = `#/jobs/${answer.id}`;
      else this.record = answer;
    } catch (error) {
      toast(error.message, "error");
    }
    button.disabled = false;
    soon(this.paint);
  }

  #stagebar(state, isLive) {
    const plan = this.record?.config?.plan;
    const stages = plan === "labels" ? STAGES : plan === "crawl" ? ["crawling"] : plan === "read" ? ["processing-ocr"] : [];
    const tally = counts(state);
    const progress = isLive && !isEnded(state.status) ? Math.max(state.progress, this.fresh.progress) : state.progress;
    attribute(this.bar, "aria-valuenow", String(progress));
    this.bar.firstElementChild.style.transform = `scaleX(${progress / 100})`;
    attribute(this.bar, "data-group", group(state.status));
    const message = (isLive && this.fresh.message) || state.message;
    const step = (isLive && this.fresh.step) || state.stage;
    const shown = [`${progress} %`, !stages.length && step && !STAGE[step] && !isEnded(state.status) ? step : "", message].filter(Boolean).join(" · ");
    say(this.head.message, shown);
    this.stages.hidden = !stages.length;
    const at = STAGES.indexOf([...state.spans].reverse().find((span) => STAGES.includes(span.status))?.status);
    const of = { crawling: [tally.shots, 0], "processing-ocr": [tally.read + tally.unread, tally.shots], matching: [tally.matched + tally.unmatched, tally.read], rendering: [tally.labels + state.labelFailures.length, 0] };
    if (this.stages.childElementCount !== stages.length) {
      this.stages.replaceChildren(...stages.map((stage) => h("li", {}, h("span", { class: "sign" }, icon(SIGNS[stage])), h("span", { class: "name" }, STAGE[stage]), h("span", { class: "count" }))));
    }
    stages.forEach((stage, index) => {
      const node = this.stages.children[index];
      const place = STAGES.indexOf(stage);
      const isOver = state.status === "completed" || place < at;
      const how = isOver ? "done" : place > at ? "ahead" : isEnded(state.status) ? "failed" : state.status === "paused" ? "paused" : "now";
      attribute(node, "data-how", how);
      attribute(node, "aria-current", how === "now" ? "step" : null);
      const [done, all] = of[stage];
      say(node.lastElementChild, how === "ahead" ? "" : all ? `${done} of ${all}` : String(done));
    });
  }

  #bands(first, last) {
    const { length } = this.timeline.bands;
    // Within a stage the bands only become a little shorter with each event.
    if (this.banded === last || (this.bands.childElementCount === length && performance.now() - this.bandedAt < 250 && !isEnded(this.timeline.head.status))) return;
    this.banded = last;
    this.bandedAt = performance.now();
    const span = Math.max(1, last - Math.max(first, 1));
    const x = (seq) => ((Math.max(seq, first, 1) - Math.max(first, 1)) / span) * 1000;
    const { bands } = this.timeline;
    this.bands.replaceChildren(...bands.map((band, index) => {
      const to = bands[index + 1] ? x(bands[index + 1].seq) : 1000;
      return svg("rect", { x: x(band.seq), y: 0, width: Math.max(0, to - x(band.seq)), height: 10, class: `band ${band.status}` });
    }));
  }
}

const freshStart = () => ({ progress: 0, step: "", message: "", readings: new Map(), companies: new Map() });

/** Asks whether somebody is sure. */
function confirmed(question, yes) {
  return new Promise((answer) => {
    const dialog = h("dialog", { class: "small", "aria-label": question, onclose: () => { dialog.remove(); answer(dialog.returnValue === "yes"); } },
      h("p", {}, question),
      h("div", { class: "row" }, h("button", { class: "danger", onclick: () => dialog.close("yes") }, yes), h("button", { autofocus: true, onclick: () => dialog.close("no") }, "Keep it")));
    document.body.append(dialog);
    dialog.showModal();
  });
}

