// A new job: what is to be visited, and what is to become of it.

import { ask } from "./api.js";
import { h, icon, toast } from "./dom.js";
import { bytes } from "./words.js";

/** Products of the demo's job at the most. */
const DEMO_PRODUCTS = 40;

/** Starts a job on the demo shop, with its price list. */
export async function runDemo(app, button) {
  if (button) button.disabled = true;
  try {
    const job = await submit({ shopUrl: app.about.demoShop.url, name: "Labels of the demo shop", maxProducts: DEMO_PRODUCTS, plan: "labels" }, await demoList(app));
    location.hash = `#/jobs/${job}`;
  } catch (error) {
    toast(error.message, "error");
  } finally {
    if (button) button.disabled = false;
  }
}

async function demoList(app) {
  const blob = await ask(app.about.demoShop.priceList, { as: "blob" });
  return new File([blob], "price-list.xlsx", { type: blob.type });
}

/** Starts a job; returns its id. A price list goes along as a form, else it is plain JSON. */
async function submit(wish, list) {
  // A request that is sent again, for its answer was lost, makes one job.
  const headers = { "Idempotency-Key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
  if (!list) return (await ask("/v1/jobs", { method: "POST", json: wish, headers })).id;
  const { shopUrl, templateId = "standard-label", plan: _, matchThreshold, ...config } = wish;
  if (matchThreshold !== undefined) config.matcherConfig = { threshold: matchThreshold };
  const body = new FormData();
  body.append("shopUrl", shopUrl);
  body.append("templateId", templateId);
  body.append("config", JSON.stringify(config));
  body.append("excelFile", list);
  return (await ask("/api/automation/start", { method: "POST", body, headers, timeout: 120_000 })).jobId;
}

export class Form {
  constructor(app) {
    this.app = app;
    this.title = "New job";
    this.list = null;
    const field = (id, label, control, hint) => h("div", { class: "field" }, h("label", { for: id }, label), control, hint && h("p", { class: "hint", id: `${id}-hint` }, hint));

    this.shop = h("input", { id: "shop", type: "url", required: true, maxLength: 2048, placeholder: "https://shop.example.com/", autocomplete: "url", "aria-describedby": "shop-hint" });
    this.name = h("input", { id: "name", maxLength: 200, autocomplete: "off", placeholder: "Made of the shop's name" });
    this.template = h("select", { id: "template" }, h("option", { value: "standard-label" }, "Standard label"));
    this.products = h("input", { id: "products", type: "number", min: "1", max: String(app.about?.maxProducts ?? 2000), value: "20", inputMode: "numeric" });
    this.threshold = h("input", { id: "threshold", type: "number", min: "0", max: "1", step: "0.05", placeholder: "As the server is set" });
    this.priority = h("input", { id: "priority", type: "number", min: "-100", max: "100", value: "0" });
    this.pages = h("input", { id: "pages", type: "checkbox", checked: true });
    this.file = h("input", { id: "list-file", type: "file", accept: ".xlsx,.xls,.csv", onchange: () => this.#choose(this.file.files[0] ?? null), "aria-describedby": "list-file-hint" });
    this.chosen = h("p", { class: "chosen", "aria-live": "polite" });
    this.plans = ["labels", "crawl"].map((plan) => h("input", { type: "radio", name: "plan", value: plan, checked: plan === "labels", id: `plan-${plan}`, onchange: () => this.#planned() }));
    this.error = h("p", { class: "error", role: "alert" });
    this.start = h("button", { class: "primary", type: "submit" }, icon("play"), "Start the job");
    this.labelOnly = h("div", { class: "group" },
      field("template", "Label template", this.template),
      field("list-file", "Price list", h("div", {}, this.file, this.chosen), "An .xlsx, .xls or .csv with article numbers and prices. Without one the known products are matched."));

    const demo = app.about?.demoShop && h("div", { class: "offer card" },
      h("div", {}, h("strong", {}, "Just looking?"), h("p", {}, "This server has a small shop of its own, with all that can go wrong in one.")),
      h("div", { class: "row" }, h("button", { type: "button", class: "primary", onclick: (event) => runDemo(app, event.currentTarget) }, icon("play"), "Run the demo shop"),
        h("button", { type: "button", onclick: () => this.#fill() }, "Fill in the form with it")));
    this.element = h("section", { class: "new", "aria-labelledby": "new-title" },
      h("h1", { id: "new-title" }, "New job"), demo,
      h("form", { class: "card", onsubmit: (event) => this.#submit(event) },
        field("shop", "Shop address", this.shop, "Its start page, or a category."),
        h("fieldset", {}, h("legend", {}, "What is wanted"),
          h("div", { class: "choices" },
            this.#choice(this.plans[0], "Labels", "Photograph, read, match with a price list, and make labels"),
            this.#choice(this.plans[1], "Screenshots", "Photograph the product pages, and no more"))),
        this.labelOnly,
        h("div", { class: "pair" }, field("products", "Products at the most", this.products), field("name", "Name", this.name)),
        h("details", {}, h("summary", {}, "More"),
          h("div", { class: "pair" }, field("threshold", "Likeness of a match, 0 to 1", this.threshold), field("priority", "Priority, -100 to 100", this.priority)),
          h("label", { class: "check" }, this.pages, "Follow links to further pages of a listing")),
        this.error, h("div", { class: "row" }, this.start, h("a", { class: "button", href: "#/" }, "Cancel"))));
  }

  opened() {
    this.shop.focus();
    this.#templates();
  }

  close() {}

  #choice(input, name, text) {
    return h("label", { class: "choice" }, input, h("span", {}, h("strong", {}, name), h("span", { class: "hint" }, text)));
  }

  async #templates() {
    try {
      const { templates } = await ask("/v1/templates");
      const options = templates.map((one) => {
        const size = one.id === "auto" ? "" : ` · ${+one.widthMm.toFixed(1)} × ${+one.heightMm.toFixed(1)} mm`;
        return h("option", { value: one.id, selected: one.id === "standard-label" }, `${one.name}${size}`);
      });
      if (options.length) this.template.replaceChildren(...options);
    } catch {
      // The standard label is there to be chosen.
    }
  }

  #planned() {
    this.labelOnly.hidden = this.#plan() === "crawl";
  }

  #plan() {
    return this.plans.find((input) => input.checked).value;
  }

  #choose(file) {
    this.list = file;
    this.chosen.replaceChildren(...(file ? [icon("check"), `${file.name}, ${bytes(file.size)}`] : []));
  }

  async #fill() {
    this.shop.value = this.app.about.demoShop.url;
    this.products.value = String(DEMO_PRODUCTS);
    this.name.value ||= "Labels of the demo shop";
    try {
      this.#choose(await demoList(this.app));
    } catch (error) {
      this.error.textContent = error.message;
    }
    this.start.focus();
  }

  async #submit(event) {
    event.preventDefault();
    const plan = this.#plan();
    const wish = { plan, shopUrl: this.shop.value.trim(), maxProducts: this.products.valueAsNumber || undefined, followPagination: this.pages.checked, priority: this.priority.valueAsNumber || 0 };
    if (this.name.value.trim()) wish.name = this.name.value.trim();
    if (plan === "labels") wish.templateId = this.template.value;
    if (this.threshold.value !== "") wish.matchThreshold = this.threshold.valueAsNumber;
    this.error.textContent = "";
    this.start.disabled = true;
    try {
      location.hash = `#/jobs/${await submit(wish, plan === "labels" ? this.list : null)}`;
    } catch (error) {
      this.error.textContent = error.message;
      this.start.disabled = false;
      this.error.scrollIntoView({ block: "nearest" });
    }
  }
}
