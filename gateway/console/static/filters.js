// Selects that narrow a page to a project, a job type, or both. What is chosen stands in the page's address.

import { h } from "./dom.js";

const NAMES = { project: ["Project", "projects"], job_type: ["Job type", "job_types"] };

// `go` is called with all that is chosen. `controls` are for a toolbar, `fill` takes the answer that lists the names.
export function filters(params, go, fields = ["project", "job_type"]) {
  const chosen = Object.fromEntries(fields.filter((field) => params[field]).map((field) => [field, params[field]]));
  const selects = fields.map((field) => {
    const select = h("select", { id: `of-${field.replace("_", "-")}`, onchange: () => {
      const { [field]: _, ...others } = chosen;
      go(select.value ? { ...others, [field]: select.value } : others);
    } });
    return [field, select];
  });
  const fill = (told) => {
    for (const [field, select] of selects) {
      const names = [...new Set([...(told[NAMES[field][1]] ?? []), ...(chosen[field] ? [chosen[field]] : [])])].sort();
      if (names.join("\n") === [...select.options].slice(1).map((each) => each.value).join("\n") && select.options.length) continue;
      select.replaceChildren(h("option", { value: "" }, "all"), ...names.map((name) => h("option", { value: name }, name)));
      select.value = chosen[field] ?? "";
    }
  };
  fill({});
  return { chosen, fill, controls: selects.flatMap(([field, select]) => [h("label", { for: select.id }, NAMES[field][0]), select]) };
}
