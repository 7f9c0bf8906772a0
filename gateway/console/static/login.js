const form = document.getElementById("login");
const error = document.getElementById("error");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  error.textContent = "";
  const answer = await fetch("/console/login", {
    method: "POST",
    headers: { "content-type": "application/json", "x-console": "1" },
    body: JSON.stringify({ token: form.token.value }),
  }).catch(() => null);
  if (answer?.ok) {
    location.replace("/console" + location.hash);
    return;
  }
  const told = await answer?.json().catch(() => null);
  error.textContent = told?.error?.message ?? "The gateway does not answer.";
  form.token.select();
});
