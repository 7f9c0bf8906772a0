// Tasks and callbacks; policy; the what-if box; keys.

import { get, post } from "./api.js";
import { ago, ask, badge, card, count, h, plural, swap, table, toast, when } from "./dom.js";
import { retirements } from "./overview.js";
import { decision } from "./requests.js";
import { filters } from "./filters.js";

const LEVEL = { completed: "good", failed: "bad", cancelled: "", pending: "info", processing: "info" };

export function tasks(root, params, go) {
  const only = filters(params, go, ["project"]);
  const body = h("div", {});
  const update = async () => {
    const told = await get("tasks", only.chosen);
    only.fill(told);
    swap(body,
      h("div", { class: "tiles" }, Object.entries(told.counts).map(([name, number]) => h("div", { class: "tile" }, h("div", { class: "tile-name" }, name), h("div", { class: "tile-value num" }, count(number))))),
      card("Newest tasks", table("Newest tasks", [
        { name: "Task", cell: (row) => h("a", { href: `#/request?id=${encodeURIComponent(row.request_id)}`, class: "mono", "data-key": row.id, title: row.id }, `${row.id.slice(0, 14)}…`) },
        { name: "Project", cell: (row) => row.project }, { name: "State", cell: (row) => badge(row.status, LEVEL[row.status]) },
        { name: "Progress", num: true, cell: (row) => `${row.progress} %` }, { name: "Model", cell: (row) => row.model }, { name: "Created", cell: (row) => when(row.created) },
        { name: "Error", class: "wrap", cell: (row) => row.error?.message ?? "–" },
      ], told.tasks, { empty: "There are no tasks." })),
      card("Callbacks that nobody took", h("p", { class: "hint" }, `${plural(told.callbacks.waiting, "callback")} waiting, ${count(told.callbacks.dead)} given up.`), table("Dead callbacks", [
        { name: "Message", cell: (row) => h("span", { class: "mono", title: row.id }, `${row.id.slice(0, 12)}…`) }, { name: "Project", cell: (row) => row.project }, { name: "To", class: "wrap", cell: (row) => row.url },
        { name: "Tries", num: true, cell: (row) => row.tries }, { name: "Last error", class: "wrap", cell: (row) => row.error }, { name: "Since", cell: (row) => when(row.created) },
        { name: "Action", cell: (row) => h("button", { type: "button", "data-key": `retry-${row.id}`, onclick: () => again(row.id) }, "Send again") },
      ], told.callbacks.data, { empty: "Every callback was taken or is on its way." })));
  };
  const again = async (id) => {
    try {
      await post("callbacks/retry", { id });
      toast("The callback is sent again.", "good");
    } catch (error) {
      toast(error.message, "bad");
    }
    await update();
  };
  root.append(h("h1", {}, "Tasks"), h("div", { class: "toolbar" }, only.controls), body);
  return update;
}

export function policy(root) {
  const body = h("div", {});
  const update = async () => {
    const told = await get("policy");
    const reload = told.can_reload ? h("button", { type: "button", "data-key": "reload", onclick: read }, "Read it again") : null;
    swap(body,
      card("Loaded", { actions: [reload] }, h("p", {}, "Digest ", h("code", { "data-figure": "digest" }, told.digest), ": ", Object.entries(told.counts).map(([name, number]) => plural(number, name.replace("_", " ").slice(0, -1))).join(", "), "."),
        table("Processes on this store", [
          { name: "Process", cell: (row) => [h("span", { class: "mono" }, `${row.host} ${row.pid}`), row.makes_calls ? null : [" ", badge("admin only")]] },
          { name: "Policy", cell: (row) => [h("code", {}, row.policy), row.policy === told.digest ? null : [" ", badge("differs", "warn")]] },
          { name: "Since", cell: (row) => when(row.policy_since) }, { name: "Up since", cell: (row) => when(row.started) },
          { name: "Last reload", cell: (row) => (row.reload_failed ? [badge("failed", "bad"), " ", ago(row.reload_failed)] : badge("ok", "good")) },
        ], told.processes, { empty: "No process has said anything yet; the first word comes within seconds." })),
      told.processes.filter((each) => each.problems.length).slice(0, 1).map((each) => card("What is wrong with the newer policy", h("p", { class: "hint" }, "The one before goes on serving."), h("pre", { class: "problems", tabindex: "0" }, each.problems.join("\n")))),
      card("Job types", table("Job types", [
        { name: "Job type", cell: (row) => row.name }, { name: "Order", cell: (row) => row.order }, { name: "Routes", class: "wrap", cell: (row) => row.routes.join(", ") },
        { name: "Ladder", num: true, cell: (row) => (row.steps ? plural(row.steps, "step") : "–") }, { name: "Trials", cell: (row) => [row.experiment ? badge(row.experiment) : null, row.shadow ? badge(`shadow ${row.shadow}`) : null, row.experiment || row.shadow ? null : "–"] },
      ], told.job_types)),
      card("Retirements ahead", retirements(told.retirements)));
  };
  const read = async () => {
    try {
      const answer = await post("reload");
      toast(`Policy ${answer.digest} serves.${answer.warnings.length ? ` ${plural(answer.warnings.length, "warning")}.` : ""}`, "good");
    } catch (error) {
      toast(error.message, "bad");
    }
    await update();
  };
  root.append(h("h1", {}, "Policy"), body);
  return update;
}

const EXAMPLE = JSON.stringify({ prompt: "a red bicycle on a beach", size: "1024x1024", quality: "high", n: 1 }, null, 2);

export function explain(root, params) {
  const project = h("select", { id: "explain-project", name: "project", required: true });
  const kind = h("select", { id: "explain-operation", name: "operation" }, h("option", { value: "generate" }, "generate"), h("option", { value: "edit" }, "edit"));
  const jobType = h("input", { id: "explain-job-type", name: "job_type", placeholder: "as policy finds it", spellcheck: "false" });
  const text = h("textarea", { id: "explain-request", name: "request", rows: 10, spellcheck: "false" }, EXAMPLE);
  const result = h("div", { "aria-live": "polite", id: "explain-result" });
  const field = (id, label, input) => h("div", { class: "field" }, h("label", { for: id }, label), input);
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    let request;
    try {
      request = JSON.parse(text.value);
    } catch (error) {
      swap(result, h("p", { class: "notice bad" }, `The request is no JSON: ${error.message}`));
      return;
    }
    try {
      const headers = jobType.value.trim() ? { "X-Gateway-Job-Type": jobType.value.trim() } : {};
      swap(result, card("Decision", decision(await post("explain", { project: project.value, operation: kind.value, request, headers }))));
    } catch (error) {
      swap(result, h("p", { class: "notice bad" }, error.message));
    }
  } }, h("div", { class: "fields" }, field("explain-project", "Project", project), field("explain-operation", "Operation", kind), field("explain-job-type", "Job type", jobType)),
    field("explain-request", "Request, as a client would send it", text), h("div", { class: "row" }, h("button", { class: "primary" }, "Explain")));
  root.append(h("h1", {}, "What if"), h("p", { class: "hint" }, "What would become of this request now: nothing is called and nothing is spent."), card("Request", form), result);
  let filled = false;
  return async () => {
    if (filled) return;
    const { projects } = await get("policy");
    project.replaceChildren(...projects.map((name) => h("option", { value: name }, name)));
    if (params.project) project.value = params.project;
    filled = true;
  };
}

// Puts the names of now into a select: what was chosen stays so, or nothing is chosen if it is gone.
function offer(select, options) {
  if (options.map(([value]) => value).join("\n") === [...select.options].map((each) => each.value).join("\n")) return;
  const chosen = select.options.length ? select.value : null;
  select.replaceChildren(...options.map(([value, text]) => h("option", { value }, text ?? value)));
  if (chosen !== null) select.value = chosen;
}

const NO_JOB_TYPE = "-";  // no name is that

// Without TLS, and not on this machine, a browser has no clipboard for pages.
const copy = async (text) => navigator.clipboard.writeText(text);

export function keys(root) {
  const body = h("div", {}), shown = h("div", { "aria-live": "polite" });
  const search = h("input", { id: "find-key", type: "search", placeholder: "id, project, name, job type, state…", oninput: () => show() });
  let all = [], kinds = {};
  const offerKinds = () => offer(jobType, [[NO_JOB_TYPE, "none"], ...(kinds[project.value] ?? []).map((each) => [each])]);
  const project = h("select", { id: "key-project", name: "project", required: true, onchange: offerKinds });
  const name = h("input", { id: "key-name", name: "name", maxlength: 100, placeholder: "such as the service that uses it" });
  const jobType = h("select", { id: "key-job-type", name: "job_type", required: true });
  const field = (id, label, input) => h("div", { class: "field" }, h("label", { for: id }, label), input);
  const attempt = async (work) => {
    try {
      return await work();
    } catch (error) {
      toast(error.message, "bad");
      return null;
    }
  };
  const reveal = (made, words) => made && swap(shown, h("section", { class: "card secret" }, h("h2", {}, words), h("p", {}, "Copy it now: it is shown this once, and stored as a hash alone."),
    h("div", { class: "row" }, h("code", { id: "secret" }, made.secret),
      h("button", { type: "button", onclick: () => copy(made.secret).then(() => toast("Copied.", "good"), () => toast("Select it and copy it by hand.", "warn")) }, "Copy"),
      h("button", { type: "button", onclick: () => swap(shown) }, "I have it"))));
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    const made = await attempt(() => post("keys/create", { project: project.value, name: name.value, job_type: jobType.value === NO_JOB_TYPE ? "" : jobType.value }));
    reveal(made, `Key for ${project.value}`);
    if (made) name.value = "";
    await update();
  } }, h("div", { class: "fields" }, field("key-project", "Project", project), field("key-name", "Name", name), field("key-job-type", "Job type of requests that name none", jobType)), h("div", { class: "row" }, h("button", { class: "primary" }, "Create key")));
  const rotate = async (row) => {
    const grace = h("select", { id: "grace", name: "grace" }, [["0", "at once"], ["3600", "in an hour"], ["86400", "in a day"], ["604800", "in a week"]].map(([value, text]) => h("option", { value }, text)));
    const answer = await ask("Rotate key", `A new key replaces ${row.id}${row.name ? ` (${row.name})` : ""}.`, { action: "Rotate", body: field("grace", "The old one ends", grace) });
    if (answer) reveal(await attempt(() => post("keys/rotate", { id: row.id, grace: Number(answer.grace) })), `Key in place of ${row.id}`);
    await update();
  };
  const revoke = async (row) => {
    if (await ask("Revoke key", `${row.id}${row.name ? ` (${row.name})` : ""} of ${row.project} ends for good, within five seconds everywhere.`, { action: "Revoke", danger: true })) {
      if (await attempt(() => post("keys/revoke", { id: row.id }))) toast("The key is revoked.", "good");
    }
    await update();
  };
  const update = async () => {
    const told = await get("keys");
    [all, kinds] = [told.keys, told.job_types];
    offer(project, Object.keys(kinds).map((each) => [each]));
    offerKinds();
    show();
  };
  const show = () => {
    const word = search.value.trim().toLowerCase();
    const found = all.filter((each) => [each.id, each.project, each.name, each.job_type, each.state].join(" ").toLowerCase().includes(word));
    swap(body, card("All keys", table("Keys", [
      { name: "Key", cell: (row) => h("span", { class: "mono" }, row.id) }, { name: "Project", cell: (row) => row.project }, { name: "Name", cell: (row) => row.name || "–" }, { name: "Job type", cell: (row) => row.job_type ?? "–" },
      { name: "State", cell: (row) => [badge(row.state, row.state === "live" ? "good" : ""), row.revoked ?? row.expires ? [row.state === "live" ? " until " : " ", when(row.revoked ?? row.expires)] : null] }, { name: "Created", cell: (row) => when(row.created) },
      { name: "Actions", cell: (row) => (row.state === "live" ? h("span", { class: "row" }, h("button", { type: "button", "data-key": `rotate-${row.id}`, "aria-label": `Rotate ${row.id}`, onclick: () => rotate(row) }, "Rotate"), h("button", { type: "button", "data-key": `revoke-${row.id}`, "aria-label": `Revoke ${row.id}`, onclick: () => revoke(row) }, "Revoke")) : "–") },
    ], found, { empty: all.length ? "No such key." : "There are no keys yet.", key: (row) => row.id, limit: 500 })));
  };
  root.append(h("h1", {}, "Keys"), shown, card("New key", form), h("div", { class: "toolbar" }, h("label", { for: "find-key" }, "Find"), search), body);
  return update;
}
