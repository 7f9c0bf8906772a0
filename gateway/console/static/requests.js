// Requests as they come and go, and one of them with everything that is known of it.

import { get } from "./api.js";
import { ago, amount, badge, card, count, h, seconds, swap, table, usd, when } from "./dom.js";
import { filters } from "./filters.js";

const KIND = { settle: ["settled", "good"], presume: ["presumed", "warn"], correct: ["corrected", ""], adjust: ["adjusted", ""], void: ["given back", ""], settled: ["settled", "good"], presumed: ["presumed", "warn"], sent: ["under way", "info"], queued: ["queued", "info"] };
const state = (name) => badge(...(KIND[name] ?? [name, ""]));
const link = (id) => h("a", { href: `#/request?id=${encodeURIComponent(id)}`, class: "mono", "data-key": id, title: id }, id.length > 16 ? `${id.slice(0, 12)}…` : id);
const picture = (row) => [row.quality, row.size].filter(Boolean).join(" ");
const changes = (degraded) => Object.entries(degraded ?? {}).map(([name, value]) => badge(`${name}=${value}`, "warn"));

export function requests(root, params, go) {
  const only = filters(params, go);
  const running = h("div", {}), ended = h("div", {}), refused = h("div", {});
  root.append(h("h1", {}, "Requests"), h("div", { class: "toolbar" }, only.controls), running, ended, refused);
  return async () => {
    const told = await get("requests", only.chosen);
    only.fill(told);
    swap(running, card("Under way", told.looked_at < told.in_all ? h("p", { class: "hint" }, `${count(told.looked_at)} of ${count(told.in_all)} were looked at.`) : null, table("Requests under way", [
      { name: "Request", cell: (row) => link(row.id) }, { name: "State", cell: (row) => state(row.state) }, { name: "Project", cell: (row) => row.project },
      { name: "Job type", cell: (row) => row.job_type }, { name: "Route", cell: (row) => row.route }, { name: "Since", cell: (row) => ago(row.since) }, { name: "Held", num: true, cell: (row) => amount(row.held) },
    ], told.running, { empty: "No request is under way." })));
    swap(ended, card("Newest bookings", table("Newest bookings", [
      { name: "Request", cell: (row) => link(row.id) }, { name: "At", cell: (row) => when(row.at) }, { name: "State", cell: (row) => state(row.kind) },
      { name: "Project", cell: (row) => row.project }, { name: "Job type", cell: (row) => row.job_type },
      { name: "Route", cell: (row) => [row.route, row.attempt > 1 ? [" ", badge(`attempt ${row.attempt}`, "warn")] : null] },
      { name: "Made", cell: (row) => [picture(row) ? `${count(row.images)} × ${picture(row)} ` : "–", ...changes(row.degraded)] },
      { name: "Took", num: true, cell: (row) => seconds(row.seconds) }, { name: "Cost", num: true, cell: (row) => amount(row.usd) },
    ], told.ended, { empty: "Nothing was booked yet.", key: (row) => row.entry })));
    swap(refused, card("Refused", table("Refused requests", [
      { name: "Request", cell: (row) => h("span", { class: "mono", title: row.request_id }, `${row.request_id.slice(0, 12)}…`) }, { name: "At", cell: (row) => when(row.at) },
      { name: "Project", cell: (row) => row.project }, { name: "Job type", cell: (row) => (row.job_type === "none" ? "–" : row.job_type) },
      { name: "Status", cell: (row) => badge(row.status, row.status >= 500 ? "bad" : "warn") }, { name: "Why", cell: (row) => row.code || "passed on from the provider" },
    ], told.refused, { empty: "Nothing was refused lately." })));
  };
}

export function request(root, params) {
  const body = h("div", {});
  root.append(h("p", { class: "crumb" }, h("a", { href: "#/requests" }, "Requests")), h("h1", { class: "mono" }, params.id ?? ""), body);
  return async () => {
    const { request: found, images, now } = await get("request", { id: params.id });
    const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
    swap(body,
      h("div", { class: "columns" },
        card("What it was", h("dl", {}, fact("State", [state(found.state), found.unconfirmed ? [" ", badge("unconfirmed", "warn")] : null]), fact("When", [when(found.created), ` (${ago(found.created)})`]),
          fact("Project", found.project), fact("Key", h("span", { class: "mono" }, found.key)), fact("Job type", found.job_type), fact("Operation", found.operation),
          fact("Asked for", asked(found.request)), fact("Route", found.route), fact("Model", found.model),
          found.experiment ? fact("Experiment", `${found.experiment.name}, ${found.experiment.arm}`) : [],
          Object.keys(found.tags).length ? fact("Tags", Object.entries(found.tags).map(([name, value]) => badge(`${name}=${value}`))) : [])),
        card("Three prices", table("Prices", [
          { name: "View", cell: (row) => row.name }, { name: "Estimate", num: true, cell: (row) => amount(row.estimate) }, { name: "Cost", num: true, cell: (row) => amount(row.cost) },
        ], [["official", "Official: the vendor's list price"], ["route", "Route: what the provider charges"], ["internal", "Internal: what the project is charged"]].map(([view, name]) => ({ name, estimate: found.cost_estimate?.[view], cost: found.cost?.[view] }))),
          h("p", { class: "hint" }, found.cost_source ? `Known from: ${found.cost_source}.` : "Not known yet."))),
      images.length ? card("Images", h("div", { class: "pictures" }, images.map((image) => h("img", { src: `/console/images/${encodeURIComponent(image.id)}`, alt: `Stored image ${image.id}`, loading: "lazy", width: 160, height: 160 })))) : null,
      card("Attempts", table("Attempts", [
        { name: "No.", cell: (row) => row.attempt }, { name: "State", cell: (row) => state(row.state) }, { name: "Route", cell: (row) => [row.route, " ", ...changes(row.degraded)] },
        { name: "Size and quality", cell: (row) => picture(row) || "–" }, { name: "Images", num: true, cell: (row) => count(row.images) },
        { name: "Held", num: true, cell: (row) => amount(row.cost_estimate.route) }, { name: "Cost", num: true, cell: (row) => amount(row.cost?.route) },
        { name: "Known from", cell: (row) => row.cost_source ?? "–" }, { name: "Why", class: "wrap", cell: (row) => row.reason ?? row.answer?.reason ?? "–" },
      ], found.attempts)),
      card("Passed over", table("Routes passed over", [{ name: "Route", cell: (row) => row.route }, { name: "Why not", class: "wrap", cell: (row) => row.reason }], found.passed_over, { empty: "No route was passed over." })),
      now ? card("Such a request now", h("p", { class: "hint" }, "Every route, its price, and why not, by the policy and the budgets of this moment."), decision(now)) : null);
  };
}

function asked(about) {
  const words = [about.n ? `n=${about.n}` : about.method, about.size, about.quality, about.client_model, about.output_format, about.stream ? "stream" : null, about.mask ? "mask" : null, about.references ? `${about.references} images in` : null];
  return words.filter(Boolean).join(" · ");
}

// A decision as explain and dry runs have it.
export function decision(told) {
  const candidates = (told.candidates ?? []).map((each, at) => ({ ...each, at, why: (each.because ?? []).join("; ") }));
  return [
    told.denied ? h("p", { class: "notice bad" }, h("b", {}, `${told.denied.status} ${told.denied.code}: `), told.denied.message) : null,
    h("p", {}, told.route ? ["Goes to ", h("b", {}, told.route), told.job_type ? ` as ${told.job_type} (job type from: ${told.job_type_from}; order: ${told.order}).` : "."] : "Goes nowhere."),
    table("Candidates", [
      { name: "Now", cell: (row) => (row.at === told.chosen ? badge("chosen", "good") : row.now === "refused" ? badge("refused", "bad") : badge(row.now ?? "next")) },
      { name: "Route", cell: (row) => row.route }, { name: "Model", cell: (row) => row.model }, { name: "Makes", cell: (row) => [`${row.n} × ${row.quality} ${row.size} `, ...changes(row.degraded)] },
      { name: "At most", num: true, cell: (row) => amount(row.cost_estimate.route) }, { name: "List price", num: true, cell: (row) => amount(row.cost_estimate.official) },
      { name: "Why", class: "wrap", cell: (row) => row.why || "–" },
    ], candidates, { empty: "No route can do it." }),
    told.passed_over?.length ? [h("h3", {}, "Passed over"), table("Passed over", [{ name: "Route", cell: (row) => row.route }, { name: "Why not", class: "wrap", cell: (row) => row.reason }], told.passed_over)] : null,
  ];
}
