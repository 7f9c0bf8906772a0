// The first page: what was spent, what needs a look, what happened and why.

import { get } from "./api.js";
import { stacked } from "./chart.js";
import { amount, badge, card, choice, count, h, oneOf, percent, plural, swap, table, until, usd, when } from "./dom.js";

export const DIMENSIONS = [["project", "Project"], ["job_type", "Job type"], ["route", "Route"], ["model", "Model"]];
export const RANGES = [["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"], ["month", "This month"]];

const KINDS = [["denied", "Denied"], ["degraded", "Degraded"], ["waited", "Waited"], ["fallback", "Fell back"], ["failed", "Failed upstream"], ["ejected", "Ejected"], ["replaced", "Replaced"]];

export function overview(root, params, go) {
  const by = oneOf(DIMENSIONS, params.by, "project"), range = oneOf(RANGES, params.range, "30d");
  const notices = h("div", {}), sums = h("div", { class: "tiles" }), budgets = h("div", {}), happened = h("div", {}), unconfirmed = h("div", {}), retiring = h("div", {});
  const chart = stacked("Spend");
  root.append(
    h("h1", {}, "Overview"), notices, sums,
    card("Spend", { actions: [choice("Spend by", DIMENSIONS, by, (value) => go({ by: value, range })), choice("Range", RANGES, range, (value) => go({ by, range: value }))] }, chart),
    budgets, h("div", { class: "columns" }, happened, h("div", {}, unconfirmed, retiring)));

  return async () => {
    const told = await get("overview", { by, range });
    swap(notices, attention(told));
    swap(sums, tiles(told));
    chart.show(told.spend, nothing(told));
    swap(budgets, card("Budgets", { actions: [h("a", { href: "#/budgets", "data-key": "all-budgets" }, `All ${count(told.budgets_in_all)}`)] }, budgetTable(told.budgets)));
    swap(happened, card("Last 24 hours", causes(told.happened)));
    swap(unconfirmed, card("Unconfirmed money", h("p", { class: "hint" }, told.unconfirmed.length ? `${usd(told.sums.presumed)} booked at its worst case, since nobody knows whether it was billed.` : null),
      table("Unconfirmed money", [
        { name: "Request", cell: (row) => h("a", { href: `#/request?id=${encodeURIComponent(row.request)}`, class: "mono", title: row.request, "data-key": row.request }, row.request.slice(0, 11) + "…") },
        { name: "Project", cell: (row) => row.project }, { name: "Route", class: "wrap", cell: (row) => row.route }, { name: "Why", cell: (row) => row.why || "–" },
        { name: "At", cell: (row) => when(row.at) }, { name: "Presumed", num: true, cell: (row) => amount(row.usd) },
      ], told.unconfirmed, { empty: "Every booking is confirmed." })));
    swap(retiring, card("Retirements ahead", retirements(told.retirements)));
  };
}

export const nothing = (told) => (told.read < 1 ? "Nothing in what was read so far." : "Nothing was spent in this time.");

export function reading(told) {
  return told.read < 1 ? h("p", { class: "notice" }, h("progress", { value: told.read, max: 1, "aria-label": "Reading the ledger" }), ` Reading the ledger: ${percent(told.read)} of the period; what was before today follows.`) : null;
}

function attention(told) {
  const list = told.attention.length
    ? h("ul", { class: "notices", "aria-label": "Needs a look" }, told.attention.map((each) => h("li", { class: each.level }, h("a", { href: `#/${each.page}`, "data-key": each.text }, each.text))))
    : h("p", { class: "notice good" }, "Nothing needs a look.");
  return [reading(told), list];
}

function tiles({ sums }) {
  const tile = (name, value, note, title) => h("div", { class: "tile" }, h("div", { class: "tile-name" }, name), h("div", { class: "tile-value num", title }, value), h("div", { class: "tile-note" }, note));
  return [
    tile("Today", usd(sums.today.route), `${usd(sums.yesterday.route)} yesterday`, `$${sums.today.route}`),
    tile("This month", usd(sums.month.route), `${usd(sums.last_month_so_far.route)} by this day last month`, `$${sums.month.route}`),
    tile("Images today", count(sums.today.images), `${count(sums.month.images)} this month, ${plural(sums.month.requests, "request")}`),
    tile("Charged to projects", usd(sums.month.internal), `this month; list price ${usd(sums.month.official)}`, `$${sums.month.internal}`),
    tile("Saved", usd(sums.month.savings), "this month, against the list price", `$${sums.month.savings}`),
    tile("Unconfirmed", usd(sums.presumed), plural(sums.presumed_requests, "booking"), `$${sums.presumed}`),
  ];
}

export function meter(budget) {
  const level = budget.level === "spent" ? "bad" : budget.level === "warn" ? "warn" : "";
  return h("span", { class: "meter-row" }, h("span", { class: `meter ${level}`, share: budget.share, role: "img", "aria-label": `${percent(budget.share)} used` }), h("span", { class: "num" }, percent(budget.share)));
}

export function budgetTable(rows, limit = 200) {
  return table("Budgets", [
    { name: "Budget", cell: (row) => h("a", { href: `#/budget?id=${encodeURIComponent(row.id)}`, "data-key": row.id }, row.scope, h("small", {}, ` per ${row.window}${row.view === "route" ? "" : `, ${row.view} price`}`)) },
    { name: "Used", class: "wide", cell: meter },
    { name: "Spent", num: true, cell: (row) => amount(row.used) },
    { name: "Held", num: true, cell: (row) => (Number(row.held) ? amount(row.held) : "–") },
    { name: "Limit", num: true, cell: (row) => amount(row.limit) },
    { name: "Forecast", num: true, cell: (row) => (row.forecast === null ? "–" : amount(row.forecast)) },
    { name: "Runs out", cell: (row) => (row.runs_out ? badge(row.level === "spent" ? "used up" : until(row.runs_out), row.level === "spent" ? "bad" : "warn") : "–") },
  ], rows, { empty: "Policy sets no budget.", limit });
}

function causes(happened) {
  const rows = KINDS.flatMap(([kind, name]) => happened[kind].slice(0, 8).map((each) => ({ ...each, kind, name })));
  return table("What happened and why", [
    { name: "What", cell: (row) => badge(row.name, row.kind === "denied" || row.kind === "failed" || row.kind === "ejected" ? "bad" : "warn") },
    { name: "Where", class: "wrap", cell: (row) => row.who }, { name: "Why", class: "wrap", cell: (row) => row.why || "–" }, { name: "Times", num: true, cell: (row) => count(row.count) },
  ], rows, { empty: "Nothing was denied, degraded, kept waiting or sent elsewhere." });
}

export function retirements(rows) {
  return table("Models that retire", [
    { name: "Model", cell: (row) => row.model },
    { name: "Retires", cell: (row) => h("span", {}, row.retires, " ", badge(row.days < 0 ? "retired" : `${row.days} days`, row.days < 0 ? "bad" : row.soon ? "warn" : "")) },
    { name: "Replacement", cell: (row) => row.replacement ?? "–" },
    { name: "Job types", class: "wrap", cell: (row) => row.job_types.join(", ") || "–" },
  ], rows, { empty: "No model in use has a date." });
}
