// Spend by one dimension, and budgets with their burn-down.

import { get } from "./api.js";
import { burning, stacked } from "./chart.js";
import { amount, card, choice, count, h, oneOf, plural, swap, table, usd, until, when } from "./dom.js";
import { filters } from "./filters.js";
import { budgetTable, DIMENSIONS, meter, nothing, RANGES, reading } from "./overview.js";

export function spend(root, params, go) {
  const by = oneOf(DIMENSIONS, params.by, "project"), range = oneOf(RANGES, params.range, "30d");
  const only = filters(params, (chosen) => go({ by, range, ...chosen }));
  const notices = h("div", {}), chart = stacked("Spend"), rows = h("div", {});
  const name = Object.fromEntries(DIMENSIONS)[by];
  root.append(h("h1", {}, "Spend"),
    h("div", { class: "toolbar" }, choice("Spend by", DIMENSIONS, by, (value) => go({ by: value, range, ...only.chosen })), choice("Range", RANGES, range, (value) => go({ by, range: value, ...only.chosen })), only.controls), notices,
    card(`Spend by ${name.toLowerCase()}`, chart), rows);
  return async () => {
    const told = await get("spend", { by, range, ...only.chosen });
    only.fill(told);
    swap(notices, told.trouble ? h("p", { class: "notice bad" }, `The ledger does not answer; these figures are what was read of it before. ${told.trouble}`) : reading(told));
    chart.show(told.spend, nothing(told));
    const unnamed = told.spend.names - told.rows.length;
    swap(rows, card("Figures", table(`Spend by ${name.toLowerCase()}`, [
      { name, cell: (row) => (row.total ? h("b", {}, "All") : row.name) },
      { name: "Requests", num: true, cell: (row) => count(row.requests) }, { name: "Images", num: true, cell: (row) => count(row.images) },
      { name: "List price", num: true, cell: (row) => amount(row.official) }, { name: "Spent", num: true, cell: (row) => amount(row.route, { "data-figure": row.total ? "total" : row.name }) },
      { name: "Charged", num: true, cell: (row) => amount(row.internal) }, { name: "Saved", num: true, cell: (row) => amount(row.savings) },
      { name: "Unconfirmed", num: true, cell: (row) => (Number(row.unconfirmed) ? amount(row.unconfirmed) : "–") },
    ], told.rows.length ? [{ ...told.total, total: true }, ...told.rows] : [], { empty: nothing(told), limit: 1001 }),
      unnamed > 0 ? h("p", { class: "hint" }, `The dearest; ${plural(unnamed, "more name")}, all of them in the sum.`) : null));
  };
}

export function budgets(root, params, go) {
  const search = h("input", { id: "find", type: "search", value: params.find ?? "", placeholder: "project, job type, route…", oninput: () => show() });
  const rows = h("div", {});
  let all = [];
  const show = () => {
    const word = search.value.trim().toLowerCase();
    swap(rows, card("All budgets", budgetTable(all.filter((each) => `${each.scope} ${each.window}`.toLowerCase().includes(word)), 1000)));
  };
  root.append(h("h1", {}, "Budgets"), h("div", { class: "toolbar" }, h("label", { for: "find" }, "Find"), search), rows);
  return async () => {
    all = (await get("budgets")).budgets;
    show();
  };
}

export function budget(root, params) {
  const head = h("div", {}), chart = burning("Burn-down");
  root.append(h("p", { class: "crumb" }, h("a", { href: "#/budgets" }, "Budgets")), head, card("Burn-down", chart));
  return async () => {
    const told = await get("budget", { id: params.id });
    const fact = (name, value) => h("div", { class: "tile" }, h("div", { class: "tile-name" }, name), h("div", { class: "tile-value num" }, value));
    swap(head, h("h1", {}, told.scope, h("small", {}, ` per ${told.window}`)), meter(told),
      h("div", { class: "tiles four" }, fact("Limit", usd(told.limit)), fact("Spent", usd(told.used)), fact("Held", usd(told.held)), fact("Left", usd(told.left)),
        fact("Pace per hour", usd(told.pace_per_hour)), fact("Forecast", told.forecast === null ? "–" : usd(told.forecast)),
        fact("Window ends", told.ends ? when(told.ends) : "never"), fact("Runs out", told.runs_out ? until(told.runs_out) : "no")));
    chart.show(told);
  };
}
