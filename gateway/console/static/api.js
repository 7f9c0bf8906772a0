// What the page asks of the gateway. A session that ended leads to the login page.

export class Failure extends Error {
  constructor(message, status, details) {
    super(message);
    this.status = status;
    this.details = details;
  }
}

async function read(answer) {
  if (answer.status === 401) {
    location.assign("/console/login" + location.hash);
    return new Promise(() => {});
  }
  const told = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Failure(told.error?.message ?? `HTTP ${answer.status}`, answer.status, told.error);
  return told;
}

export async function get(name, query = {}) {
  const words = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const answer = await fetch(`/console/api/${name}${words.size ? `?${words}` : ""}`).catch(() => null);
  if (!answer) throw new Failure("The gateway does not answer.", 0);
  return read(answer);
}

export async function post(path, body = {}) {
  const answer = await fetch(path.startsWith("/") ? path : `/console/api/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-console": "1" },
    body: JSON.stringify(body),
  }).catch(() => null);
  if (!answer) throw new Failure("The gateway does not answer.", 0);
  return read(answer);
}
