// What things are called, and how times and sizes are written.

export const STATUS = {
  pending: "Waiting", running: "Running", crawling: "Photographing", "processing-ocr": "Reading", matching: "Matching",
  rendering: "Rendering", paused: "Paused", completed: "Done", failed: "Failed", cancelled: "Cancelled",
};
export const STAGE = {
  crawling: "Photograph", "processing-ocr": "Read", matching: "Match", rendering: "Labels",
};
/** What a stage of companies is called that is one of a shop's elsewhere. */
const OF_COMPANIES = { crawling: ["Looking up", "Look up"] };
export const KINDS = { crawl: "Screenshots", automation: "Labels", companies: "Companies", work: "Work" };
export const FIELDS = {
  articleNumber: "Article number", name: "Name", price: "Price", tiers: "Price by quantity", ean: "EAN", description: "Description",
};

/** The group of a status, for filters and colours. */
export function group(status) {
  if (status === "pending") return "waiting";
  if (status === "paused") return "paused";
  if (status === "completed") return "done";
  if (status === "failed" || status === "cancelled") return "failed";
  return "running";
}

/** What a status of a job of a type is called. */
export const statusWord = (status, type) => (type === "companies" && OF_COMPANIES[status]?.[0]) || (STATUS[status] ?? status);
/** What the stage that a status is of is called. */
export const stageWord = (status, type) => (type === "companies" && OF_COMPANIES[status]?.[1]) || (STAGE[status] ?? statusWord(status));

export function ago(from, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - from) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function duration(ms) {
  if (!(ms >= 0)) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
export const clock = (at) => (at ? CLOCK.format(at) : "");
export const moment = (at) => (at ? DAY.format(at) : "");

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 1e6) return `${(size / 1e3).toFixed(1)} kB`;
  return `${(size / 1e6).toFixed(1)} MB`;
}

export function money(value, currency = "EUR") {
  if (typeof value !== "number") return "";
  try {
    return new Intl.NumberFormat("en-GB", { style: "currency", currency }).format(value);
  } catch {
    return `${value.toFixed(2)} ${currency}`;
  }
}

/** A value of a product, for people. */
export function shown(field, value, currency) {
  if (value === undefined || value === null || value === "") return "";
  if (field === "price") return money(value, currency);
  if (field === "tiers") {
    return Array.isArray(value) ? value.map((tier) => `${tier.minQuantity}+ ${money(tier.price, currency)}`).join(" · ") : "";
  }
  return String(value);
}

export function host(address) {
  try {
    return new URL(address).host;
  } catch {
    return "";
  }
}

export const share = (score) => `${Math.round(score * 100)} %`;
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
