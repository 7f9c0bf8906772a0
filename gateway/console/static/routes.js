// Routes: health, capacity used, latency.

import { get } from "./api.js";
import { amount, badge, card, count, h, percent, plural, seconds, swap, table } from "./dom.js";

const STATES = { closed: ["in service", "good"], slow_start: ["coming back", "warn"], half_open: ["on trial", "warn"], open: ["ejected", "bad"], unknown: ["no process", "warn"] };
const UNITS = { images: "images", requests: "requests", tokens: "tokens", concurrent: "in flight" };
const SPANS = { 0: "", 60: "/min", 86400: "/day", 3600: "/h" };

export function routes(root) {
  const rows = h("div", {}), note = h("p", { class: "hint" });
  const search = h("input", { id: "find-route", type: "search", placeholder: "route, provider, model…", oninput: () => show() });
  let told = { routes: [], processes: 0 };
  const show = () => {
    const word = search.value.trim().toLowerCase();
    const found = told.routes.filter((each) => `${each.route} ${each.provider} ${each.model} ${each.lane}`.toLowerCase().includes(word));
    note.textContent = `${plural(told.routes.length, "route")}; health as told by ${told.processes === 1 ? "one process" : `${count(told.processes)} processes`} on this store. Calls, failures and times of the last 24 hours.`;
    swap(rows, card("All routes", table("Routes", [
      { name: "Route", cell: (row) => [row.route, row.lane === "production" ? null : [" ", badge(row.lane)], row.route.includes(row.model) ? null : h("small", {}, ` ${row.model}`)] },
      { name: "Health", cell: (row) => h("span", { title: row.healths.map((each) => `${each.host} (${each.pid}): ${each.circuit}, ${each.failures_in_a_row} failures in a row`).join("\n") || undefined }, badge(...STATES[row.circuit])) },
      { name: "Capacity used", class: "wide", cell: (row) => (row.limits.length ? row.limits.map(used) : "no limit") },
      { name: "Calls", num: true, cell: (row) => count(row.calls) },
      { name: "Failed", num: true, cell: (row) => (row.failed ? count(row.failed) : "–") },
      { name: "p50", num: true, cell: (row) => seconds(row.p50) }, { name: "p95", num: true, cell: (row) => seconds(row.p95) },
      { name: "Images today", num: true, cell: (row) => count(row.today.images) },
      { name: "Spent today", num: true, cell: (row) => amount(row.today.route) },
    ], found, { empty: "No such route.", limit: 500, key: (row) => row.route })));
  };
  root.append(h("h1", {}, "Routes"), h("div", { class: "toolbar" }, h("label", { for: "find-route" }, "Find"), search), note, rows);
  return async () => {
    told = await get("routes");
    show();
  };
}

function used(limit) {
  const taken = limit.limit - limit.left, share = limit.limit ? taken / limit.limit : 1;
  const words = `${count(taken)} of ${count(limit.limit)} ${UNITS[limit.counted]}${SPANS[limit.seconds] ?? ""}`;
  return h("span", { class: "meter-row" }, h("span", { class: `meter ${share >= 1 ? "bad" : share >= 0.8 ? "warn" : ""}`, share, role: "img", "aria-label": percent(share) }),
    h("small", {}, words, limit.scope.startsWith("provider:") ? " (account)" : ""));
}
