// Elements, figures and times. Nothing is ever parsed as HTML: whatever clients wrote stays text.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value") element.value = value;
    else if (name === "color") element.style.setProperty("--own", value);
    else if (name === "share") element.style.setProperty("--share", `${Math.min(Math.max(value, 0), 1) * 100}%`);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Puts new content in place of the old; the focus and how far tables were scrolled stay.
export function swap(region, ...children) {
  const focused = document.activeElement;
  const key = region.contains(focused) ? focused.dataset.key ?? focused.id : null;
  const open = new Set([...region.querySelectorAll("details[open]")].map((each) => each.dataset.key));
  const scrolled = [...region.querySelectorAll(".scroll")].map((each) => [each.scrollLeft, each.scrollTop]);
  region.replaceChildren(...children.flat(3).filter(Boolean));
  region.querySelectorAll(".scroll").forEach((each, at) => { [each.scrollLeft, each.scrollTop] = scrolled[at] ?? [0, 0]; });
  for (const each of region.querySelectorAll("details")) if (open.has(each.dataset.key)) each.open = true;
  if (key) (region.querySelector(`[data-key="${CSS.escape(key)}"]`) ?? document.getElementById(key))?.focus({ preventScroll: true });
}

const dollars = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });
const fine = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", minimumFractionDigits: 4, maximumFractionDigits: 4 });
const whole = new Intl.NumberFormat("en-US");

export function usd(text) {
  if (text === null || text === undefined) return "–";
  const amount = Number(text);
  return Math.abs(amount) > 0 && Math.abs(amount) < 1 ? fine.format(amount) : dollars.format(amount);
}

// An amount with every digit that the ledger has, for whoever points at it.
export function amount(text, props = {}) {
  return h("span", { class: "num", title: text === null || text === undefined ? undefined : `$${text}`, ...props }, usd(text));
}

export const count = (number) => whole.format(number);
export const percent = (share) => `${(share * 100).toFixed(share < 0.1 && share > 0 ? 1 : 0)} %`;
export const seconds = (number) => (number === null || number === undefined ? "–" : `${number < 10 ? number.toFixed(1) : Math.round(number)} s`);

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function moment(value) {
  return typeof value === "number" ? new Date(value * 1000) : new Date(value);
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export function when(value) {
  if (value === null || value === undefined) return "–";
  const at = moment(value);
  const today = at.toDateString() === new Date().toDateString();
  return h("time", { datetime: at.toISOString(), title: at.toISOString() }, today ? clock.format(at) : day.format(at));
}

export function ago(value) {
  const past = (Date.now() - moment(value)) / 1000;
  if (past < 90) return `${Math.max(Math.round(past), 0)} s ago`;
  if (past < 5400) return `${Math.round(past / 60)} min ago`;
  if (past < 129600) return `${Math.round(past / 3600)} h ago`;
  return `${Math.round(past / 86400)} d ago`;
}

export function until(value) {
  const left = (moment(value) - Date.now()) / 1000;
  if (left < 5400) return `in ${Math.max(Math.round(left / 60), 0)} min`;
  if (left < 129600) return `in ${Math.round(left / 3600)} h`;
  return `in ${Math.round(left / 86400)} d`;
}

// A table that scrolls by itself on a small screen. Columns: {name, cell(row), num}. Rows in their order.
export function table(label, columns, rows, { empty = "Nothing here.", key, limit = 200 } = {}) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.num ? "num" : column.class }, column.name)));
  const lines = rows.slice(0, limit).map((row, at) =>
    h("tr", { "data-row": key ? key(row) : at },
      columns.map((column, place) =>
        h(place === 0 ? "th" : "td", { scope: place === 0 ? "row" : undefined, class: column.num ? "num" : column.class }, column.cell(row)))));
  const more = rows.length > limit ? h("p", { class: "hint" }, `${count(rows.length - limit)} more`) : null;
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label, "data-key": `table-${label}` },
    h("table", {}, h("caption", { class: "hidden" }, label), h("thead", {}, head), h("tbody", {}, lines)), more);
}

export function card(title, ...children) {
  const last = children[0]?.actions ? children.shift() : null;
  return h("section", { class: "card" },
    h("div", { class: "card-head" }, h("h2", {}, title), last ? h("div", { class: "actions" }, last.actions) : null), children);
}

export function badge(text, level = "") {
  return h("span", { class: `badge ${level}` }, text);
}

export function toast(text, level = "") {
  const note = h("div", { class: `toast ${level}` }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}

// What stands in the address is anybody's: only one of the options counts.
export const oneOf = (options, value, otherwise) => (options.some(([name]) => name === value) ? value : otherwise);

// One of a few: buttons that say which is pressed.
export function choice(label, options, chosen, choose) {
  return h("div", { class: "choice", role: "group", "aria-label": label },
    options.map(([value, text]) =>
      h("button", { type: "button", "data-key": `${label}-${value}`, "aria-pressed": value === chosen ? "true" : "false", onclick: () => choose(value) }, text)));
}

// Asks before something that cannot be undone; resolves to what was typed in `field`, true, or null.
export function ask(title, text, { action = "OK", danger = false, body = null } = {}) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": title },
      h("form", { method: "dialog" }, h("h2", {}, title), text ? h("p", {}, text) : null, body,
        h("div", { class: "row end" },
          h("button", { value: "cancel", formnovalidate: true }, "Cancel"),
          h("button", { value: "ok", class: danger ? "danger" : "primary" }, action))));
    dialog.addEventListener("close", () => {
      const form = dialog.querySelector("form");
      resolve(dialog.returnValue === "ok" ? Object.fromEntries(new FormData(form)) : null);
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
