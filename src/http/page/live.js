// The connection: a stock socket.io-client, which jobs it follows, and how it stands.

import { io } from "./socket.io.js";
import { credentials } from "./api.js";
import { arrived } from "./dom.js";

/** Subscriptions that wait for their answer at once; the server refuses more than it is willing to queue. */
const AT_ONCE = 16;
/** How the server says at a connect that it wants to know who it is. */
const WHO = ["unauthenticated", "invalid_token", "token_expired", "forbidden"];

export class Live extends EventTarget {
  #follows = new Map();
  #queue = [];
  #asked = 0;

  constructor() {
    super();
    this.status = { phase: "connecting", recovered: null, returns: 0, replayed: 0, since: Date.now(), transport: "" };
    this.listeners = new Set();
    this.socket = io({ auth: (say) => say(credentials.get() ? { token: credentials.get() } : {}), autoConnect: false });
    const { socket } = this;
    socket.on("connect", () => this.#connected());
    socket.on("disconnect", (reason) => this.#disconnected(reason));
    socket.on("connect_error", (error) => this.#refused(error));
    socket.io.on("reconnect_attempt", () => this.#stand({ phase: navigator.onLine === false ? "offline" : "reconnecting" }));
    socket.onAny((event, data, offset) => {
      arrived();
      // The offset begins with the event's position in the journal; progress has none.
      const position = typeof offset === "string" ? offset.split(".")[0] : undefined;
      for (const listen of this.listeners) listen(event, data, position);
    });
    addEventListener("offline", () => this.#stand({ phase: "offline" }));
    addEventListener("online", () => {
      if (!socket.connected) socket.connect();
    });
  }

  open() {
    this.#stand({ phase: "connecting" });
    this.socket.connect();
  }

  /** Stays away until somebody says who they are. */
  leave() {
    this.socket.disconnect();
    this.#stand({ phase: "denied" });
  }

  /** Comes back as somebody else, or with a new token. */
  reopen() {
    for (const follow of this.#follows.values()) follow.joined = false;
    this.socket.disconnect();
    this.open();
  }

  /**
   * Follows a job from behind a seq; `after` says at any time which seq is known. Several may follow the same job.
   * @returns a function that ends it
   */
  follow(job, after, answered = () => {}) {
    const one = { after, answered };
    let follow = this.#follows.get(job);
    if (follow) follow.all.add(one);
    else this.#follows.set(job, (follow = { all: new Set([one]), joined: false }));
    this.#ask(job, one);
    return () => {
      follow.all.delete(one);
      if (follow.all.size > 0 || this.#follows.get(job) !== follow) return;
      this.#follows.delete(job);
      if (this.socket.connected) this.socket.emit("job:unsubscribe", job);
    };
  }

  #ask(job, one) {
    if (!this.socket.connected) return;
    this.#queue.push([job, one]);
    this.#work();
  }

  #work() {
    while (this.#asked < AT_ONCE && this.#queue.length) {
      const [job, one] = this.#queue.shift();
      const follow = this.#follows.get(job);
      if (!follow?.all.has(one)) continue;
      this.#asked += 1;
      const known = one.after();
      this.socket.timeout(20_000).emit("job:subscribe", job, { after: known }, (late, answer) => {
        this.#asked -= 1;
        if (!late && answer?.ok) {
          follow.joined = true;
          one.answered({ ...answer, known });
        } else if (!late) {
          one.answered(answer);
        }
        this.#work();
      });
    }
  }

  #connected() {
    const { socket } = this;
    const isReturn = this.status.returns > 0 || this.status.everConnected;
    const recovered = isReturn ? socket.recovered : null;
    this.#queue.length = 0;
    this.#asked = 0;
    for (const [job, follow] of this.#follows) {
      if (!recovered) follow.joined = false;
      for (const one of follow.all) {
        // Who is back in its session is in its rooms; the answer tells how far the job was meanwhile.
        if (!follow.joined || one.answered.wantsReturns) this.#ask(job, one);
      }
    }
    const transport = () => this.#stand({ transport: socket.io.engine?.transport?.name ?? "" });
    socket.io.engine?.once("upgrade", transport);
    this.#stand({
      phase: "live", recovered, everConnected: true, error: "",
      returns: this.status.returns + (isReturn ? 1 : 0), transport: socket.io.engine?.transport?.name ?? "",
    });
    this.dispatchEvent(new CustomEvent("connected", { detail: { recovered: recovered !== false, isReturn } }));
  }

  #disconnected(reason) {
    if (reason === "io client disconnect") return;
    this.#stand({ phase: navigator.onLine === false ? "offline" : "reconnecting", error: reason });
    // The library stays away when it was sent away; the answer to a new try tells why.
    if (reason === "io server disconnect") setTimeout(() => this.socket.connect(), 1000);
  }

  #refused(error) {
    if (WHO.includes(error.message)) {
      this.#stand({ phase: "denied", error: error.message });
      this.dispatchEvent(new CustomEvent("denied", { detail: error.message }));
    } else {
      this.#stand({ phase: navigator.onLine === false ? "offline" : "reconnecting", error: error.message });
      // A refusal at the namespace is not tried again by the library.
      if (!this.socket.active) setTimeout(() => this.socket.connect(), 3000);
    }
  }

  /** So many events came that were missed. */
  replayed(count) {
    if (count > 0) this.#stand({ replayed: this.status.replayed + count });
  }

  #stand(change) {
    const isOut = (phase) => phase === "reconnecting" || phase === "offline";
    const { phase } = this.status;
    const isSame = !change.phase || change.phase === phase || (isOut(change.phase) && isOut(phase));
    this.status = { ...this.status, ...change, since: isSame ? this.status.since : Date.now() };
    this.dispatchEvent(new Event("status"));
  }
}
