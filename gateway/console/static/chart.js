// Charts by uPlot, each with a table beside it that says the same.

import { h, swap, usd, table } from "./dom.js";

const COLORS = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];

function paint(name) {
  const probe = h("span", { class: `probe ${name}` });
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

const short = (value) => (value >= 1000 ? `$${(value / 1000).toFixed(value >= 10000 ? 0 : 1)}k` : value >= 10 ? `$${value.toFixed(0)}` : value >= 0.1 || value === 0 ? `$${value.toFixed(2)}` : `$${value.toPrecision(1)}`);

function axes(days) {
  const text = paint("text"), grid = paint("grid");
  const font = "11px system-ui, sans-serif";
  return [
    { stroke: text, font, grid: { show: false }, ticks: { show: false }, size: days ? 26 : 40, space: 70,
      values: [[86400, "{D} {MMM}", null, null, null, null, null, null, 1], [3600, "{H}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1], [60, "{H}:{mm}", null, null, null, null, null, null, 1], [1, ":{ss}", null, null, null, null, null, null, 1]] },
    { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 52, space: 36, values: (_, values) => values.map(short) },
  ];
}

// Draws into a box and draws anew when the box or the theme changes.
class Drawing {
  constructor(box, height, options) {
    this.box = box;
    this.height = height;
    this.options = options;
    this.plot = null;
    this.watch = new ResizeObserver(() => this.plot?.setSize({ width: Math.max(box.clientWidth, 120), height }));
    this.watch.observe(box);
    this.repaint = () => this.data && this.draw(this.data);
    addEventListener("themechange", this.repaint);
  }

  draw(data) {
    if (!this.box.isConnected && this.plot) return this.end();
    this.data = data;
    this.plot?.destroy();
    this.plot = new uPlot({ width: Math.max(this.box.clientWidth, 120), height: this.height, legend: { show: false }, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } }, padding: [10, 22, 0, 0], axes: axes(data.days), ...this.options(data) }, data.columns, this.box);
    return undefined;
  }

  end() {
    this.watch.disconnect();
    removeEventListener("themechange", this.repaint);
    this.plot?.destroy();
  }
}

// A line under the pointer that tells the values there.
function readout(box, tell) {
  const note = h("div", { class: "readout", "aria-hidden": "true" });
  return {
    hooks: {
      ready: [(plot) => plot.over.append(note)],
      setCursor: [(plot) => {
        const { idx, left } = plot.cursor;
        note.hidden = idx === null || idx === undefined || left < 0;
        if (note.hidden) return;
        note.replaceChildren(...tell(idx));
        const right = left > plot.over.clientWidth / 2;
        note.style.left = right ? "auto" : `${left + 12}px`;
        note.style.right = right ? `${plot.over.clientWidth - left + 12}px` : "auto";
      }],
    },
  };
}

const label = (time, step) => {
  const at = new Date(time * 1000);
  const day = at.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  return step >= 86400 ? day : `${day}, ${at.toISOString().slice(11, 16)} UTC`;
};

export function stacked(title) {
  const box = h("div", { class: "plot", role: "img" });
  const legend = h("ul", { class: "legend" });
  const words = h("details", { class: "as-table", "data-key": `${title}-table` });
  let shown = null;
  const drawing = new Drawing(box, 230, () => {
    const colors = shown.series.map((_, at) => paint(COLORS[at % COLORS.length]));
    const bars = uPlot.paths.bars({ size: [0.78, 44], gap: 0 });
    const order = shown.series.map((_, at) => at).reverse();
    return {
      ...readout(box, (idx) => [
        h("strong", {}, label(shown.times[idx], shown.step)),
        ...shown.series.map((each, at) => [each, at]).filter(([each]) => Number(each.usd[idx])).map(([each, at]) =>
          h("div", {}, h("i", { class: "swatch", color: colors[at] }), ` ${each.name} `, h("b", {}, usd(each.usd[idx])))),
      ]),
      scales: { x: { time: true, range: (_, low, high) => [low - shown.step * 0.6, high + shown.step * 0.6] }, y: { range: (_, low, high) => [0, Math.max(high * 1.08, 0.0001)] } },
      series: [{}, ...order.map((at) => ({ fill: colors[at], stroke: colors[at], width: 0, paths: bars, points: { show: false } }))],
    };
  });
  const root = h("figure", { class: "chart" }, legend, box, words);

  root.show = (spend, empty) => {
    shown = spend;
    const sums = spend.times.map(() => 0);
    const stackedUp = spend.series.map((each) => each.usd.map((value, at) => (sums[at] += Math.max(Number(value), 0))));
    const spent = (each) => each.usd.reduce((sum, value) => sum + Number(value), 0);
    legend.replaceChildren(...spend.series.map((each, at) =>
      h("li", {}, h("i", { class: `swatch ${COLORS[at % COLORS.length]}` }), each.name, " ", h("span", { class: "num" }, usd(spent(each))))));
    const total = spend.series.reduce((sum, each) => sum + spent(each), 0);
    box.setAttribute("aria-label", `${title}: ${usd(total)} over ${spend.times.length} ${spend.step >= 86400 ? "days" : "hours"}; the table below has the values`);
    const rows = spend.times.map((time, at) => ({ time, at })).filter(({ at }) => spend.series.some((each) => Number(each.usd[at]))).reverse();
    swap(words, h("summary", { "data-key": `${title}-summary` }, "As a table"),
      table(`${title}, values`, [{ name: spend.step >= 86400 ? "Day (UTC)" : "Hour (UTC)", cell: ({ time }) => label(time, spend.step) },
        ...spend.series.map((each) => ({ name: each.name, num: true, cell: ({ at }) => usd(each.usd[at]) }))], rows, { empty }));
    requestAnimationFrame(() => box.isConnected && drawing.draw({ days: spend.step >= 86400, columns: [spend.times, ...stackedUp.reverse()] }));
  };
  return root;
}

// What was spent of a budget, its limit, and where the pace leads.
export function burning(title) {
  const box = h("div", { class: "plot", role: "img" });
  const words = h("details", { class: "as-table", "data-key": `${title}-table` });
  let shown = null;
  const drawing = new Drawing(box, 210, () => {
    const limit = Number(shown.limit), top = Math.max(limit, Number(shown.used), Number(shown.forecast ?? 0));
    return {
      ...readout(box, (idx) => [h("strong", {}, label(shown.times[Math.min(idx, shown.times.length - 1)], 3600)),
        h("div", {}, "spent ", h("b", {}, usd(shown.spent[Math.min(idx, shown.times.length - 1)])))]),
      scales: { x: { time: true }, y: { range: () => [0, top * 1.08 || 1] } },
      series: [{}, { stroke: paint("c1"), width: 2, fill: paint("soft"), points: { show: false } },
        { stroke: paint(shown.runs_out ? "bad" : "c1"), width: 1.5, dash: [5, 5], points: { show: false }, spanGaps: true },
        { stroke: paint("bad"), width: 1, dash: [2, 4], points: { show: false }, spanGaps: true }],
    };
  });
  const root = h("figure", { class: "chart" },
    h("ul", { class: "legend" }, h("li", {}, h("i", { class: "swatch c1" }), "spent"), h("li", {}, h("i", { class: "swatch dashed" }), "at this pace"), h("li", {}, h("i", { class: "swatch bad" }), "limit")),
    box, words);

  root.show = (budget) => {
    shown = budget;
    const end = budget.ends ? Date.parse(budget.ends) / 1000 : budget.times.at(-1);
    const times = [...budget.times], last = times.length - 1;
    const spent = budget.spent.map(Number);
    const pace = times.map((_, at) => (at === last ? spent[last] : null));
    if (end > times.at(-1)) {
      times.push(end);
      spent.push(null);
      pace.push(budget.forecast === null ? null : Number(budget.forecast));
    }
    const limit = times.map((_, at) => (at === 0 || at === times.length - 1 ? Number(budget.limit) : null));
    box.setAttribute("aria-label", `${title}: ${usd(budget.used)} of ${usd(budget.limit)} spent${budget.forecast ? `, ${usd(budget.forecast)} forecast` : ""}`);
    swap(words, h("summary", { "data-key": `${title}-summary` }, "As a table"),
      table(`${title}, values`, [{ name: "By", cell: (each) => label(each.time, 3600) }, { name: "Spent", num: true, cell: (each) => usd(each.spent) }],
        budget.times.map((time, at) => ({ time, spent: budget.spent[at] })).reverse()));
    requestAnimationFrame(() => box.isConnected && drawing.draw({ columns: [times, spent, pace, limit] }));
  };
  return root;
}
