// The page: where it stands, what it shows, and what the gateway tells meanwhile.

import { get, post } from "./api.js";
import { h, swap } from "./dom.js";
import { overview } from "./overview.js";
import { requests, request } from "./requests.js";
import { routes } from "./routes.js";
import { budget, budgets, spend } from "./spend.js";
import { explain, keys, policy, tasks } from "./work.js";

const PAGES = { overview, spend, budgets, budget, routes, requests, request, tasks, policy, explain, keys };
const NAMES = [["overview", "Overview"], ["spend", "Spend"], ["budgets", "Budgets"], ["routes", "Routes"], ["requests", "Requests"], ["tasks", "Tasks"], ["policy", "Policy"], ["explain", "What if"], ["keys", "Keys"]];
const UNDER = { budget: "budgets", request: "requests" };
const STILL = new Set(["explain"]);
const SLOW_SECONDS = 10;
const LIVELY = new Set(["overview", "requests", "request"]);

const main = document.getElementById("main");
const live = document.getElementById("live"), liveText = document.getElementById("live-text");
let update = null, shown = "", busy = false, again = false, updated = 0;

function place() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  return [name || "overview", Object.fromEntries(new URLSearchParams(query ?? ""))];
}

function nowhere(root) {
  root.append(h("h1", {}, "No such page"), h("p", { class: "notice bad" }, `There is no page ${place()[0]}. `, h("a", { href: "#/overview" }, "Overview")));
  return async () => {};
}

const go = (name) => (params) => {
  const words = new URLSearchParams(params).toString();
  location.hash = `#/${name}${words ? `?${words}` : ""}`;
};

function nav(current) {
  swap(document.getElementById("nav"), h("ul", {}, NAMES.map(([name, text]) =>
    h("li", {}, h("a", { href: `#/${name}`, "data-key": `nav-${name}`, "aria-current": name === current ? "page" : undefined }, text)))));
}

async function open() {
  const [name, params] = place();
  const first = shown === "";
  const root = h("div", { class: "page" });
  shown = name;
  nav(UNDER[name] ?? name);
  const focused = main.contains(document.activeElement) ? document.activeElement.dataset.key ?? document.activeElement.id : null;
  main.replaceChildren(root);
  update = (Object.hasOwn(PAGES, name) ? PAGES[name] : nowhere)(root, params, go(name));
  document.title = `${NAMES.find(([each]) => each === (UNDER[name] ?? name))?.[1] ?? "No such page"} · Image Gateway`;
  const again = focused && root.querySelector(`[data-key="${CSS.escape(focused)}"], #${CSS.escape(focused)}`);
  if (again) again.focus();
  else if (!first) main.focus({ preventScroll: true });
  await refresh();
  root.dataset.ready = "true";
  performance.mark("shown");
}

async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  const mine = update;
  try {
    await mine();
    updated = Date.now();
    if (update === mine) main.querySelector(".failure")?.remove();
  } catch (error) {
    if (update === mine) {
      const told = main.querySelector(".failure");
      if (told?.textContent !== error.message) {  // the same words again would only be read out again
        told?.remove();
        main.querySelector(".page")?.prepend(h("p", { class: "notice bad failure", role: "alert" }, error.message));
      }
    }
    if (!(error instanceof Error) || error.constructor.name !== "Failure") console.error(error);
  } finally {
    busy = false;
    if (again || update !== mine) {
      again = false;
      refresh();
    }
  }
}

// A browser opens six connections to a host for all of its tabs: one that nobody sees keeps none.
let source = null;
function follow() {
  if (source || document.hidden) return;
  source = new EventSource("/console/events");
  let last = null, whole = 1, away = false;
  const say = (state, text) => {
    if (live.dataset.state === state) return;
    live.dataset.state = state;
    liveText.textContent = text;
  };
  source.onmessage = (event) => {
    const told = JSON.parse(event.data);
    if (told.away) say("away", "store away");
    else say(told.read < 1 ? "reading" : "live", told.read < 1 ? "reading the ledger" : "live");
    const fresh = (told.version !== last && LIVELY.has(shown)) || (whole < 1 && told.read === 1) || told.away !== away || Date.now() - updated > SLOW_SECONDS * 1000;
    last = told.version;
    whole = told.read;
    away = told.away;
    if (fresh && !document.hidden && !STILL.has(shown)) refresh();
  };
  source.onerror = async () => {
    say("lost", "not connected");
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      await get("policy").catch(() => null);  // leads to the login page if that is why
      setTimeout(follow, 3000);
    }
  };
}

const THEMES = ["system", "light", "dark"];
const button = document.getElementById("theme");
function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  button.textContent = `Theme: ${name}`;
  dispatchEvent(new Event("themechange"));
}
button.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length];
  try {
    localStorage.setItem("theme", next);
  } catch { /* storage is off: it lasts as long as the page */ }
  theme(next);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
document.getElementById("logout").addEventListener("click", async () => {
  await post("/console/logout").catch(() => null);
  location.assign("/console/login");
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();  // the address names the page, not a place in it
  main.focus();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    source = null;
    return;
  }
  follow();
  if (update) refresh();
});
addEventListener("hashchange", open);

get("session").then(({ login }) => { document.getElementById("logout").hidden = !login; }, () => {});
theme(document.documentElement.dataset.theme ?? "system");
open();
follow();
