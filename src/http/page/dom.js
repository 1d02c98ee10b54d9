// Elements, made of text alone: nothing that came from outside is ever read as HTML. And frames: what changes within one
// is painted once.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Properties are set as such, `on…` listens, the rest are attributes; null and false are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && !name.includes("-") && !["list", "form", "width", "height"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const ICONS = {
  back: "M15 5l-7 7 7 7", play: "M8 5.5v13l11-6.5z", pause: "M8 5v14M16 5v14", stop: "M6 6h12v12H6z", retry: "M4 12a8 8 0 1 0 2.5-5.8M4 4v4h4",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 16.5a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4", read: "M4 6h16M4 11h10M4 16h13",
  match: "M9 15l6-6M8.5 11L6 13.5a3.5 3.5 0 0 0 5 5L13.5 16M15.500 13L18 10.5a3.500 3.500 0 0 0-5-5L10.500 8", label: "M4 4h8l8 8-8 8-8-8zM8.500 8.500h.01",
  check: "M5 12.500l4.500 4.500L19 7.500", cross: "M6 6l12 12M18 6L6 18", warn: "M12 4l9 16H3zM12 10v4M12 17h.01", plus: "M12 5v14M5 12h14",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8M4 20c1-4 4-6 8-6s7 2 8 6", sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 2v2M12 20v2M4 4l1.500 1.500M18.500 18.500L20 20M2 12h2M20 12h2M4 20l1.500-1.500M18.500 5.500L20 4",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z", auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18", print: "M7 9V4h10v5M7 17H4V9h16v8h-3M7 14h10v6H7z",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14M16 16l5 5", box: "M4 4h6M4 4v6M20 4h-6M20 4v6M4 20h6M4 20v-6M20 20h-6M20 20v-6", trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
};

/** A sign beside words; it says nothing by itself. */
export function icon(name) {
  const sign = svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" });
  sign.append(svg("path", { d: ICONS[name] ?? "" }));
  return sign;
}

/** Sets a text if it is another than before. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function attribute(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== value) {
    node.setAttribute(name, value);
  }
}

/** An address that may be loaded or followed: of the web, or nothing. */
export function web(address) {
  try {
    const url = new URL(address, location.href);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : "";
  } catch {
    return "";
  }
}

/** A smaller picture of an object, where the server makes one and its address needs no signature. */
export function smaller(address, width) {
  const safe = web(address);
  if (!safe) return "";
  const url = new URL(safe);
  if (url.search || !url.pathname.startsWith("/cdn/") || url.pathname.startsWith("/cdn/tr:")) return safe;
  url.pathname = `/cdn/tr:w-${width}${url.pathname.slice(4)}`;
  return url.href;
}

export function link(address, text, properties = {}) {
  const safe = web(address);
  return safe ? h("a", { href: safe, target: "_blank", rel: "noopener noreferrer", ...properties }, text) : h("span", {}, text);
}

/** Keeps the children of a parent to a list of items in their order; each is made once and changed in place. */
export function keyed(parent, items, key, make, update) {
  const nodes = (parent.nodesByKey ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [id, entry] of nodes) {
    if (!wanted.has(id)) {
      entry.node.remove();
      nodes.delete(id);
    }
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = key(item);
    let entry = nodes.get(id);
    if (!entry) {
      entry = { node: make(item), item: undefined };
      nodes.set(id, entry);
    }
    if (entry.item !== item) {
      update?.(entry.node, item);
      entry.item = item;
    }
    if (entry.node === place) place = place.nextElementSibling;
    else parent.insertBefore(entry.node, place);
  }
}

const waiting = new Set();
let frame = 0;

/** Has a function run before the next frame, once however often it is asked for. */
export function soon(paint) {
  waiting.add(paint);
  frame ||= requestAnimationFrame(run);
}

function run() {
  frame = 0;
  const now = [...waiting];
  waiting.clear();
  for (const paint of now) {
    try {
      paint();
    } catch (error) {
      console.error(error);
    }
  }
  const events = pending.splice(0);
  if (events.length) requestAnimationFrame(() => painted(events));
}

/** The newest times from an event's arrival to the frame behind the one that shows it, in milliseconds. */
const SAMPLES = 4096;
const samples = new Float64Array(SAMPLES);
let sampled = 0;
const pending = [];

/** An event arrived; counts only while somebody can see the page. */
export function arrived() {
  if (document.visibilityState !== "visible" || pending.length >= SAMPLES) return;
  pending.push(performance.now());
  frame ||= requestAnimationFrame(run);
}

function painted(events) {
  const now = performance.now();
  for (const at of events) samples[sampled++ % SAMPLES] = now - at;
}

/** How long events took to be painted: how many, p50, p99 and the longest. */
export function latency() {
  const count = Math.min(sampled, SAMPLES);
  const sorted = samples.slice(0, count).sort();
  const at = (part) => (count ? sorted[Math.min(count - 1, Math.floor(count * part))] : 0);
  return { count: sampled, p50: at(0.5), p99: at(0.99), max: at(1) };
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") pending.length = 0;
});

/** Tells the user something in passing. */
export function toast(message, kind = "info") {
  const place = document.getElementById("toasts");
  const note = h("div", { class: `toast ${kind}` }, message);
  place.append(note);
  while (place.childElementCount > 4) place.firstElementChild.remove();
  setTimeout(() => note.remove(), 7000);
}
